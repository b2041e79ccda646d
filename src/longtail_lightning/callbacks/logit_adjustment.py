"""Logit adjustment after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._counts import class_counts_of
from longtail_lightning.counts import ClassCounts
from longtail_lightning.losses import BalancedSoftmaxLoss, LogitAdjustedLoss


class LogitAdjustment(L.Callback):
    r"""Move the logits of a trained model to another class prior: validate, test and predict with it.

    **What it changes.** A model trained with cross-entropy has learned the training prior; this
    takes it out, and puts the prior of the test set in. Training and its validation are not touched.

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
        self.tau = tau
        self.target_prior = list(target_prior) if target_prior is not None else None
        self._handle: Any = None

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

    def _attach(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.tau == 0 or trainer.state.fn == "fit":
            return
        counts = class_counts_of(trainer, pl_module)
        head = getattr(pl_module, "head", None)
        if counts is None or not isinstance(head, nn.Module):
            raise LongTailError("LogitAdjustment needs a module with `.head` and `.class_counts`.")
        if isinstance(getattr(pl_module, "loss", None), (LogitAdjustedLoss, BalancedSoftmaxLoss)):
            rank_zero_warn(
                f"This model was trained with {type(pl_module.loss).__name__}, which removed the prior already: "
                f"LogitAdjustment(tau={self.tau:g}) takes it out a second time."
            )
        offset = self.offset(counts).float().to(pl_module.device)
        self._handle = head.register_forward_hook(lambda _module, _inputs, logits: logits + offset.to(logits.dtype))

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._attach(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._attach(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._attach(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._detach()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._detach()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._detach()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._detach()
