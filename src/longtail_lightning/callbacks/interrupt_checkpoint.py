"""Save a fit that Ctrl-C or SIGTERM stops, in the middle of its epoch."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from longtail_lightning._lightning import SHARDED, processes_started_by, write_checkpoint_alone
from longtail_lightning.callbacks._checkpoints import folder_of


class InterruptCheckpoint(Checkpoint):
    """Finish the batch, write a checkpoint that continues there, and stop.

    **What it changes.** Without it, Ctrl-C and SIGTERM lose what was trained since the last checkpoint, which is
    up to an epoch. A second Ctrl-C stops at once. In a validation the fit goes on to its end, as the epoch is
    saved then. Among several processes the first one decides and saves, and ends the others.

    **When it helps, when it hurts.** Always in an interactive run and on machines that are taken away with a
    warning. Lightning's own handling of SLURM stays. Strategies that hold parts of the weights per process save
    together, which cannot be done here: with those, the fit stops without a checkpoint of its own.

    Args:
        filename: the file in the folder of the checkpoints, without `.ckpt`.

    Examples:
        >>> trainer = L.Trainer(callbacks=[InterruptCheckpoint()], logger=False)
    """

    def __init__(self, filename: str = "last") -> None:
        super().__init__()
        self.filename = filename
        self.saved: Path | None = None
        """The checkpoint from which a stopped fit goes on; None when there is none."""
        self._received: int | None = None
        self._handlers: dict[int, tuple[Any, Any]] = {}
        self._path: Path | None = None
        self._steps = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        folder = folder_of(trainer)  # asked for by all processes
        self.saved, self._received = None, None
        self._path = None if folder is None else folder / f"{self.filename}.ckpt"

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        """Take the signals, in the place of Lightning, which has taken them after `on_fit_start`."""
        if self._handlers or threading.current_thread() is not threading.main_thread():  # others get no signals
            return
        # Lightning's own handler puts a job of SLURM back into the queue.
        for number in (signal.SIGINT, *(() if SLURMEnvironment.detect() else (signal.SIGTERM,))):
            ours = partial(self._receive, trainer)
            self._handlers[number] = signal.signal(number, ours), ours

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        # Gradients that wait for more batches are not saved. After the last batch, the epoch is about to be saved.
        between = trainer.global_step > self._steps and not trainer.is_last_batch
        if self._received is not None and between and trainer.is_global_zero:
            self._save(trainer)
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._received is not None and trainer.is_global_zero:
            self.saved = self._path if self._path is not None and self._path.is_file() else None
            self._stop(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._let_go()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._let_go()

    def _let_go(self) -> None:
        for number, (before, ours) in self._handlers.items():
            if signal.getsignal(number) is ours:  # Lightning ignores Ctrl-C while it closes a run
                signal.signal(number, before)
        self._handlers = {}

    def _receive(self, trainer: L.Trainer, received: int, frame: FrameType | None) -> None:
        again, self._received = self._received is not None, received
        if again:
            raise KeyboardInterrupt
        if not trainer.is_global_zero:  # this process trains until the first one ends it
            return
        if trainer.sanity_checking:  # nothing is trained yet
            self._stop(trainer)
        print("\nStopping after this batch or validation; once more to stop at once.", file=sys.stderr, flush=True)

    def _save(self, trainer: L.Trainer) -> None:
        if self._path is None or isinstance(trainer.strategy, SHARDED):
            return
        if trainer.world_size > 1:
            write_checkpoint_alone(trainer, self._path)
        else:
            trainer.save_checkpoint(self._path)
        self.saved = self._path

    def _stop(self, trainer: L.Trainer) -> None:
        for process in processes_started_by(trainer):
            process.kill()
        raise SIGTERMException if self._received == signal.SIGTERM else KeyboardInterrupt
