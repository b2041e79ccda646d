"""The settings of the training of a head, as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.features._arguments import require_callable, require_loss


@dataclass(frozen=True)
class HeadTraining:
    """Settings of the training of a head, checked when they are made; the keyword arguments of `fit_head`.

    Args:
        epochs: how often as many features as the bank has are drawn; 10 for cRT, 5 for LWS in the paper's code.
        sampler: from labels to sampler, for example `SquareRootSampler`; class-balanced by default, and
            instance-balanced where labels are multi-hot.
        loss: called as `loss(logits, labels)`; a loss that takes class counts and has none gets
            those of the bank for the training. Cross-entropy by default, and binary cross-entropy where labels
            are multi-hot.
        optimizer: from parameters to optimizer; its learning rates follow the cosine. SGD by default.
        lr: first learning rate of the default optimizer.
        momentum: its momentum.
        weight_decay: its weight decay.
        batch_size: features per step.
        seed: seed of order and dropout; a sampler that is given a seed of its own keeps it.
        teacher: a trained head on the same features, such as an ensemble, whose predictions the new one learns, too.
        alpha: share of the teacher in the loss, from 0 to 1.
        logit_loss: called as `logit_loss(logits, teacher's logits)`; `LogitDistillationLoss()` by default.

    Examples:
        >>> from dataclasses import replace
        >>> replace(HeadTraining(), epochs=5)
        HeadTraining(epochs=5, sampler=None, loss=None, optimizer=None, lr=0.2, momentum=0.9, weight_decay=0.0005,
            batch_size=512, seed=0, teacher=None, alpha=0.9, logit_loss=None)
    """

    epochs: int = 10
    sampler: Callable[[Any], Any] | None = None
    loss: nn.Module | None = None
    optimizer: Callable[[Iterable[Tensor]], Optimizer] | None = None
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 512
    seed: int = 0
    teacher: nn.Module | None = None
    alpha: float = 0.9
    logit_loss: nn.Module | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise LongTailError(f"{name}={getattr(self, name)} must be at least 1.")
        require_number(self, "lr", self.lr, 0)
        require_number(self, "momentum", self.momentum, 0, 1)
        require_number(self, "weight_decay", self.weight_decay, 0)
        require_number(self, "alpha", self.alpha, 0, 1)
        require_callable("sampler", self.sampler)
        require_loss(self.loss)
