"""Private names of Lightning and torch: nobody else uses any, so that an upgrade breaks one file.

Each function has a test that says which name is gone.
"""

from __future__ import annotations

import signal
from typing import Any

# -- torch.utils.data ----------------------------------------------------------------------------


def end_workers(loader: Any, batches: Any) -> None:
    """End the processes of a loader now.

    The traceback of an error keeps the iterator alive until the garbage collector finds it, which would close the
    pipes to the workers while the threads that feed them do the same.

    Args:
        loader: a `DataLoader` with workers.
        batches: its iterator.
    """
    batches._shutdown_workers()
    loader._iterator = None  # of persistent workers


def reason_of_death(batches: Any, *, wait: bool = False) -> str | None:
    """How a loading process has ended by itself: the name of a signal, an exit code; None when all of them live.

    Args:
        batches: the iterator of a `DataLoader`.
        wait: give a process that is about to end a second.
    """
    workers = getattr(batches, "_workers", ())
    for worker in workers:
        if wait:
            worker.join(1 / len(workers))
        if worker.exitcode is not None:
            return signal.Signals(-worker.exitcode).name if worker.exitcode < 0 else f"exit code {worker.exitcode}"
    return None


def tells_of_a_dead_worker(error: BaseException) -> bool:
    """Whether torch's signal handler raised this because a loading process died; it has no type of its own.

    Args:
        error: what was raised in the main process, at any place.
    """
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


# -- lightning.pytorch -----------------------------------------------------------------------------


def training_batch(trainer: Any) -> int:
    """How many batches of this epoch have been given to the module, the one in hand included."""
    ready: int = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return ready


def trained_batches(trainer: Any) -> int:
    """How many batches of the running epoch have been trained on; 0 between epochs."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    # A batch that is ready but not processed was interrupted by an exception: it is due again.
    done: int = progress.current.processed
    return 0 if progress.is_last_batch and done == progress.current.ready else done
