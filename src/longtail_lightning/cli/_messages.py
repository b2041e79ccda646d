"""Errors of jsonargparse and Lightning, said in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._lightning import signal_of_a_dead_worker
from longtail_lightning.cli.catalog import all_components
from longtail_lightning.datasets.loader import WorkerDiedError


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
        if reason := signal_of_a_dead_worker(error):  # told while the model was busy, outside of the loader
            raise WorkerDiedError(reason=reason) from error
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
    if match := re.search(
        r'Parser key "(.+?)":.*Expected an instantiatable class, but \S+ is abstract', text, re.DOTALL
    ):
        return f"Say which class before its options: --{match[1]} CLASS --{match[1]}.OPTION VALUE."
    if told := _inside(text):
        return told
    names = list(all_components())
    for word in re.findall(r"[\w.]+", text):
        bare = word.rpartition(".")[2]
        if bare not in names and bare[:1].isupper() and (hint := did_you_mean(bare, names)).startswith("Did you mean"):
            return f"There is no class {bare!r}. {hint}"
    return message[:600]


def _inside(text: str) -> str | None:
    """What jsonargparse says about the options of a class, the innermost one, in its indented tree."""
    keys: list[tuple[int, str]] = []
    owner, found, depth = "", None, -1
    for line in text.splitlines():
        indent, line = len(line) - len(line.lstrip()), line.strip().removeprefix("- ")
        if match := re.fullmatch(r'Parser key "(.+)":', line):
            keys = [*((i, key) for i, key in keys if i < indent), (indent, match[1])]
        elif match := re.fullmatch(r"Problem with given class_path '(.+)':", line):
            owner = match[1].rpartition(".")[2]
        elif indent > depth and owner and (told := _leaf(line, owner, "--" + ".".join(key for _, key in keys))):
            found, depth = told, indent
    return found


def _leaf(line: str, owner: str, flag: str) -> str | None:
    if match := re.fullmatch(r"Option '(.+)' is not accepted", line):
        component = all_components().get(owner)
        hint = f" {did_you_mean(match[1], component.options, listing=f'ltl show {owner}')}" if component else ""
        return f"{owner} has no option {match[1]!r}.{hint}"
    if match := re.fullmatch(r"(Type .+ a callable class: )?the following arguments are required: (.+)", line):
        needed = ", ".join(f"{flag}.{name}" for name in match[2].split(", "))
        return f"{flag if match[1] else owner} needs {needed}."  # of a callable, the class is not told here
    if match := re.fullmatch(r"Expected a (.+)\. Got value: (.*)", line):
        expected = re.sub(r"<class '(.+?)'>|typing\.Literal", lambda m: m[1] or "one of ", match[1])
        return f"{flag} {match[2]}: expected {expected}."
    return None
