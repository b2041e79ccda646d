"""Say in one sentence why a command stopped, where the user can change the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from longtail_lightning._distributed import LOST_PROCESS, is_lost_connection
from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import signal_of_a_dead_worker
from longtail_lightning._system_errors import sentence_for_system_error
from longtail_lightning.cli._causes import causes, first_of_ours
from longtail_lightning.cli._foreign_messages import sentence_for, sentence_for_parser_error
from longtail_lightning.datasets.loader import WorkerDiedError


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn errors of jsonargparse, Lightning and torch, and ours that they have wrapped, into one sentence."""
    try:
        yield
    except Exception as error:
        ours = first_of_ours(error)
        if ours is error:
            raise
        if ours is not None:
            raise LongTailError(str(ours)) from ours
        found = [cause for group in causes(error) for cause in group]
        for cause in found:
            if told := _sentence(cause):
                raise LongTailError(told) from cause
        if found[0] is not error:  # a fault, and another error when the run was closed
            raise found[0] from None
        raise


def _sentence(error: BaseException) -> str | None:
    if isinstance(error, ArgumentError):
        return sentence_for_parser_error(str(error))
    if told := sentence_for_system_error(error):
        return told
    if not isinstance(error, (ValueError, TypeError, RuntimeError, MisconfigurationException)):
        return None
    if told := sentence_for(str(error)):
        return told
    if isinstance(error, MisconfigurationException):
        return " ".join(str(error).split())[:600]
    if is_lost_connection(error):
        return LOST_PROCESS
    if reason := signal_of_a_dead_worker(error):  # raised while the model was busy, outside of the loader
        return str(WorkerDiedError(reason=reason))
    return None
