"""Errors of jsonargparse and Lightning, said in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.cli.catalog import all_components
from longtail_lightning.data.loader import worker_died


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn jsonargparse's errors, and ours that it has wrapped, into one sentence."""
    try:
        yield
    except LongTailError:
        raise
    except (ArgumentError, ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LongTailError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise LongTailError(str(cause)) from error
        if isinstance(error, ArgumentError):
            raise LongTailError(parser_message(str(error))) from error
        if isinstance(error, MisconfigurationException) or "loading state_dict" in str(error):
            raise LongTailError(" ".join(str(error).split())[:600]) from error
        if "DataLoader worker (" in str(error):  # told while the model was busy, outside of the loader
            raise LongTailError(worker_died(error)) from error
        raise


def parser_message(text: str) -> str:
    """Jsonargparse's error, shortened to what the user can act on."""
    reasons = [line.strip().removeprefix("- ") for line in text.splitlines() if line.strip().startswith("- ")]
    reasons = [reason for reason in reasons if "NoneType" not in reason and "Problem with given" not in reason]
    first = " ".join(text.splitlines()[0].split())
    message = (
        f"{first.partition(': Does not validate')[0]}: {'; '.join(reasons)}" if reasons else " ".join(text.split())
    )
    if "subclass of LongTailLoss" in text:
        return f"{message}. A loss from elsewhere goes into WrapLoss: --model.loss=WrapLoss --model.loss.loss=CLASS"
    names = list(all_components())
    for word in re.findall(r"[\w.]+", text):
        bare = word.rpartition(".")[2]
        if bare not in names and bare[:1].isupper() and (hint := did_you_mean(bare, names)).startswith("Did you mean"):
            return f"There is no class {bare!r}. {hint}"
    return message[:600]
