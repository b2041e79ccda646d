"""Callbacks of the user's own that end a run."""

from __future__ import annotations

import lightning as L

from longtail_lightning import LongTailError


class Faulty(L.Callback):
    """Raises what no sentence is known for."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 2:  # the logger holds values by then
            raise IndexError("the fault")


class Refuses(L.Callback):
    """Raises a sentence."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 2:
            raise LongTailError("This is the cause.")
