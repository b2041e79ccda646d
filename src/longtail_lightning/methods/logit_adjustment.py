"""Adjusted logits: the control of what raises rare classes."""

from __future__ import annotations

from torch import nn

from longtail_lightning._number_range import require_number
from longtail_lightning.features import FeatureBank
from longtail_lightning.heads import LogitAdjustedHead
from longtail_lightning.heads._frozen import frozen_copy
from longtail_lightning.methods.base import Device, Retrained, Retraining


class AdjustedLogits(Retraining):
    r"""The trained classifier with \(\tau \log \pi_c\) taken from its logits: rare classes are named more often.

    Args:
        tau: strength.
        name: what files are called.

    Examples:
        >>> import torch
        >>> from longtail_lightning import LinearHead
        >>> bank = FeatureBank.from_arrays(torch.eye(2).repeat(8, 1), [0, 1] * 8)
        >>> AdjustedLogits(tau=1.0)(LinearHead(2, 2), bank).label
        'adjusted logits'
    """

    name = "adjusted"
    title = "adjusted logits"

    def __init__(self, *, tau: float = 1.0, name: str = "adjusted") -> None:
        super().__init__(name)
        require_number(self, "tau", tau)
        self.tau = tau

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        return Retrained(LogitAdjustedHead(head, train.class_counts, tau=self.tau), self.label)

    def check(self, head: nn.Module, *, validation: bool = True) -> None:
        frozen_copy(head, "AdjustedLogits")
