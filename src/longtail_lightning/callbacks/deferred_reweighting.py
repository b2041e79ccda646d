"""Deferred re-weighting (DRW)."""

from __future__ import annotations

from typing import Any

import lightning as L

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._start import check_start, start_epoch


class DeferredReweighting(L.Callback):
    r"""Train with the loss as it is, then re-weigh it by class for the last part of the training.

    **What it changes.** `pl_module.loss.weighting`, from the first epoch of the deferred part on. Before
    it, and after the training, the loss keeps its own value.

    **Formula.** For \(t \ge t_0\), with the default weighting, class c has the weight
    \((1 - \beta) / (1 - \beta^{n_c})\), \(\beta = 0.9999\), scaled as the loss's `normalize` says.

    **When it helps, when it hurts.** The tail gains once the features are learned, best together with
    the first drop of the learning rate. Used from the first epoch on, the same weights hurt the features.

    **Classes without images** are as the loss's `weighting` treats them.

    Args:
        start: first epoch of the deferred part (int, counted from 0), or the fraction of the epochs
            before it (float).
        weighting: what `loss.weighting` becomes.

    Examples:
        >>> trainer = L.Trainer(max_epochs=200, callbacks=[DeferredReweighting(start=160)], logger=False)

    **Paper.** Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019,
    section 3.3 and algorithm 1.

    **Differences from the authors' code.** Theirs switches at epoch 160 whatever the number of epochs, and
    ends in an IndexError from epoch 320 on.
    """

    def __init__(self, start: int | float = 0.8, weighting: str = "effective(0.9999)") -> None:
        check_start(start)
        self.start = start
        self.weighting = weighting
        self._own: str | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss: Any = getattr(pl_module, "loss", None)
        if not isinstance(getattr(loss, "weighting", None), str):
            raise LongTailError(
                f"DeferredReweighting sets `loss.weighting`, which the loss of {type(pl_module).__name__} "
                f"({type(loss).__name__}) does not have: use a loss of this library, such as CrossEntropyLoss()."
            )
        if self._own is None:
            self._own = loss.weighting
        # A run that resumes within an epoch never reaches `on_train_epoch_start`.
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._apply(trainer, pl_module)

    def _apply(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss: Any = pl_module.loss
        deferred = trainer.current_epoch >= start_epoch(self.start, trainer)
        loss.weighting = self.weighting if deferred else self._own

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss: Any = pl_module.loss
        loss.weighting, self._own = self._own, None

    def state_dict(self) -> dict[str, Any]:
        return {"own": self._own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._own = state_dict["own"]
