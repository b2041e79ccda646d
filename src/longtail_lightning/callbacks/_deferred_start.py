"""When a deferred method begins: an epoch, or a fraction of the training."""

from __future__ import annotations

import lightning as L

from longtail_lightning._errors import LongTailError


def check_start(start: int | float) -> None:
    """Refuse a start that is neither an epoch nor a fraction."""
    if not start >= 0 or (isinstance(start, float) and start > 1):
        raise LongTailError(f"start={start}: pass an epoch (int, from 0) or a fraction of the epochs (float, 0 to 1).")


def start_epoch(start: int | float, trainer: L.Trainer) -> int:
    """The first epoch, counted from 0, of the deferred part."""
    if isinstance(start, int):
        return start
    if trainer.max_epochs is None or trainer.max_epochs < 0:
        raise LongTailError(
            f"start={start} is a fraction of the epochs, but the Trainer has no max_epochs: "
            "set max_epochs, or pass start as an epoch (int)."
        )
    return round(start * trainer.max_epochs)
