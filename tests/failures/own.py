"""Callbacks of the user's own that end a run, with values that the logger has still to write."""

from __future__ import annotations

import lightning as L

from longtail_lightning import LongTailError


class Faulty(L.Callback):
    """Raises what no sentence is known for."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.logger.log_metrics({"value": 1.0}, step=0)
        raise IndexError("the fault")


class Refuses(L.Callback):
    """Raises a sentence."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.logger.log_metrics({"value": 1.0}, step=0)
        raise LongTailError("This is the cause.")
