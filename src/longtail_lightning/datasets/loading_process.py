"""What a process that loads batches does first: make sure that a batch that cannot be sent is not waited for."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any

import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._system_errors import SHARED_MEMORY, sentence_for_system_error


class LoadingProcess:
    """The `worker_init_fn` of a loader: errors of sending reach the main process.

    A thread of the loading process sends the batches. Where it fails, as without room in the shared memory or without
    a free file descriptor, Python prints a traceback and goes on, and the main process waits without an end.

    Args:
        init: another `worker_init_fn`, called afterwards.
    """

    def __init__(self, init: Callable[[int], None] | None = None) -> None:
        self.init = init

    @classmethod
    def beginning_with(cls, init: Callable[[int], None] | None) -> LoadingProcess:
        """The same for a loader that is made anew from the arguments of another."""
        return init if isinstance(init, cls) else cls(init)

    def __call__(self, worker: int) -> None:
        # Python's own hook, made for concurrent.futures; here it is replaced in the loading process alone.
        Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]
        sys.excepthook = _end_without_files
        if self.init is not None:
            self.init(worker)


def require_room(processes: int) -> None:
    """Refuse to start loading processes that the system has no room for: torch ends badly when it fails half-way.

    Args:
        processes: how many are to be started.
    """
    files: list[int] = []
    semaphores: list[Any] = []
    try:
        for _ in range(3 * processes + 8):  # they lie in the shared memory; each process takes three
            semaphores.append(multiprocessing.Lock())
        for _ in range(8 * (processes + 1)):  # each takes three, and some for the batches on their way
            files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        told = SHARED_MEMORY if error.errno == errno.ENOSPC else sentence_for_system_error(error)
        if told is None:
            raise
        raise LongTailError(told) from error
    finally:
        for number in files:
            os.close(number)


def one_thread(_: int) -> None:
    """One thread per worker process: more of them only fight over the cores."""
    torch.set_num_threads(1)


_print_uncaught = sys.excepthook
_print_error = Queue._on_queue_feeder_error  # type: ignore[attr-defined]


def _send_error(queue: Queue[Any], error: Exception, sent: Any) -> None:
    """Send an error, which needs no shared memory, in place of the batch that could not be sent."""
    if isinstance(sent, tuple) and len(sent) == 2 and isinstance(sent[0], int):  # number of the batch, batch
        told = sentence_for_system_error(error) or f"A loading process cannot hand over its batch ({error})."
        queue.put((sent[0], LongTailError(told)))
    else:  # a queue of the data set's own
        _print_error(error, sent)


def _end_without_files(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the process when its thread that hands over shared memory gets no file descriptor: it would try forever."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        os._exit(errno.EMFILE)
    _print_uncaught(kind, error, trace)
