"""Say in one sentence why a command stopped, where the user can change the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import signal_of_a_dead_worker
from longtail_lightning.cli._foreign_messages import sentence_for, sentence_for_parser_error
from longtail_lightning.datasets.loader import WorkerDiedError


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn errors of jsonargparse, Lightning and torch, and ours that they have wrapped, into one sentence."""
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
            raise LongTailError(sentence_for_parser_error(str(error))) from error
        if (told := sentence_for(str(error))) is not None:
            raise LongTailError(told) from error
        if isinstance(error, MisconfigurationException):
            raise LongTailError(" ".join(str(error).split())[:600]) from error
        if reason := signal_of_a_dead_worker(error):  # raised while the model was busy, outside of the loader
            raise WorkerDiedError(reason=reason) from error
        raise
