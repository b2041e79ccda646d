"""Stop at the first loss that is not a number, and say why it may be."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError


class NonFiniteLossGuard(L.Callback):
    """Stop training when the loss is NaN or infinite, with batch index, learning rate and advice.

    The loss is looked at on its device; only every `log_every_n_steps` steps does the process wait
    for the answer, so the guard costs nothing. `BaseClassifier` installs it by itself.

    Examples:
        >>> trainer = L.Trainer(callbacks=[NonFiniteLossGuard()], logger=False)
    """

    def __init__(self) -> None:
        self._first_bad: Tensor | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self._first_bad is None or not isinstance(loss, Tensor):
            return
        bad_now = ~torch.isfinite(loss.detach()).all() & (self._first_bad < 0)
        self._first_bad = torch.where(bad_now, batch_idx, self._first_bad)
        looks = pl_module.device.type == "cpu" or trainer.global_step % self._every(trainer) == 0
        if (looks or trainer.is_last_batch) and int(self._first_bad) >= 0:
            self._stop(trainer, batch, batch_idx)

    @staticmethod
    def _every(trainer: L.Trainer) -> int:
        return max(1, int(getattr(trainer, "log_every_n_steps", 1)))

    def _stop(self, trainer: L.Trainer, batch: Any, batch_idx: int) -> None:
        first = int(self._first_bad)  # type: ignore[arg-type]
        rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else float("nan")
        raise LongTailError(
            f"The loss has not been finite since batch {first} of epoch {trainer.current_epoch} "
            f"(learning rate {rate:.3g}). " + _advice(trainer, batch if first == batch_idx else None)
        )


def _advice(trainer: L.Trainer, batch: Any) -> str:
    images = batch[0] if isinstance(batch, (list, tuple)) else batch
    if isinstance(images, Tensor) and images.is_floating_point() and not bool(images.isfinite().all()):
        bad = int((~images.isfinite()).flatten(1).any(1).sum())
        return f"{bad} images of the batch hold NaN or infinity themselves: check the data and the transforms."
    if trainer.precision == "16-mixed":
        return "fp16 overflows easily: use --trainer.precision bf16-mixed, or lower the learning rate."
    if not trainer.gradient_clip_val:
        return "Lower the learning rate, lengthen the warm-up, or clip gradients with --trainer.gradient_clip_val 1.0."
    return "Lower the learning rate or lengthen the warm-up."
