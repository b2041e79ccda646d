"""Logit adjustment after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.callbacks._counts import class_counts_of
from longtail_lightning.callbacks._outputs import outputs_of
from longtail_lightning.counts import ClassCounts
from longtail_lightning.losses import BalancedSoftmaxLoss, LogitAdjustedLoss


class LogitAdjustment(L.Callback):
    r"""Move the logits of a trained model to another class prior: validate, test and predict with it.

    **What it changes.** A model trained with cross-entropy has learned the training prior; this
    takes it out, and puts the prior of the test set in. Training and its validation are not touched.

    It works on any module whose steps return `{"logits": logits, ...}`: the logits there are changed, in float32,
    before any other callback and the module's own `on_test_batch_end` see them, in whatever order the callbacks are
    listed. What a module computes within its step has seen the logits as they were.

    **Formula.** \(z_c - \tau \log \pi_c + \tau \log \pi^{\text{target}}_c\).

    **When it helps, when it hurts.** On models trained with plain cross-entropy. One trained with
    `LogitAdjustedLoss` or `BalancedSoftmaxLoss` has no prior left to take out.

    **Classes without images** get the prior of a class with one image.

    Args:
        tau: strength; 0 is off.
        target_prior: class frequencies of the test set; uniform by default.

    Examples:
        >>> trainer = L.Trainer(callbacks=[LogitAdjustment(tau=1.0)], logger=False)

    **Paper.** Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021, eq. 9; target prior: Hong et al.,
    Disentangling Label Distribution, CVPR 2021.

    **Differences from the authors' code.** None.
    """

    def __init__(self, tau: float = 1.0, target_prior: Sequence[float] | None = None) -> None:
        require_number(self, "tau", tau)
        for value in target_prior or ():
            require_number(self, "target_prior", value, 0)
        self.tau = tau
        self.target_prior = list(target_prior) if target_prior is not None else None
        self._offset: Tensor | None = None  # of the evaluation that is going on

    def offset(self, class_counts: ClassCounts) -> Tensor:
        """What is added to the logits (float64, one value per class)."""
        offset = -self.tau * class_counts.log_prior()
        if self.target_prior is None:
            return offset
        target = torch.tensor(self.target_prior, dtype=torch.float64)
        if target.shape != offset.shape or not bool((target > 0).all()):
            raise LongTailError(
                f"target_prior needs one positive frequency for each of the {len(offset)} classes, "
                f"got {len(target)} values from {float(target.min()):g}."
            )
        return offset + self.tau * (target / target.sum()).log()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Callbacks that read logits come after this one; the others keep their order.
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = sorted(callbacks, key=lambda callback: callback is not self)  # type: ignore[attr-defined]

    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._offset = None
        if self.tau == 0 or trainer.state.fn == "fit":
            return
        name = type(pl_module).__name__
        if (counts := class_counts_of(trainer, pl_module)) is None:
            raise LongTailError(
                f"LogitAdjustment cannot find the class counts of {name}: set self.class_counts to its training "
                "images per class, or pass a data module with class_counts."
            )
        if isinstance(getattr(pl_module, "loss", None), (LogitAdjustedLoss, BalancedSoftmaxLoss)):
            rank_zero_warn(
                f"This model was trained with {type(pl_module.loss).__name__}, which removed the prior already: "
                f"LogitAdjustment(tau={self.tau:g}) takes it out a second time."
            )
        self._offset = self.offset(counts).float().to(pl_module.device)

    def _adjust(self, outputs: Any, pl_module: L.LightningModule, step: str) -> None:
        if self._offset is None:
            return
        logits = outputs_of(outputs, pl_module, step)["logits"]
        if logits.shape[1] != len(self._offset):
            raise LongTailError(
                f"LogitAdjustment found the class counts of {len(self._offset)} classes, but {step} of "
                f"{type(pl_module).__name__} returned logits of {logits.shape[1]}: give it the counts of its classes, "
                "self.class_counts."
            )
        # Half precision would round the prior away.
        outputs["logits"] = logits.to(torch.promote_types(logits.dtype, torch.float32)) + self._offset

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any, **more: Any
    ) -> None:
        self._adjust(outputs, pl_module, "validation_step")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any, **more: Any
    ) -> None:
        self._adjust(outputs, pl_module, "test_step")

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any, **more: Any
    ) -> None:
        self._adjust(outputs, pl_module, "predict_step")
