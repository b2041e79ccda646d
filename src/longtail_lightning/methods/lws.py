"""Learnable weight scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from longtail_lightning._random import temporary_seed
from longtail_lightning.features import FeatureBank, HeadTraining
from longtail_lightning.features.fit_head import train_head
from longtail_lightning.heads import LearnableScaleHead
from longtail_lightning.methods.base import Device, Retrained, Retraining
from longtail_lightning.methods.crt import check_sampler
from longtail_lightning.samplers import LongTailSampler


class LWS(Retraining):
    """Learnable weight scaling: one factor per class, trained on class-balanced batches of frozen features.

    Args:
        scale_bias: whether the factor applies to the bias too, as in the authors' code.
        epochs: as many features as the bank has are drawn in each; the authors' code has 5.
        lr: first learning rate, which falls to 0 along a cosine.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD, on the factors.
        batch_size: features per step.
        sampler: from labels to sampler; class-balanced by default.
        seed: seed of the order.
        name: what files are called.

    Examples:
        >>> import torch
        >>> from longtail_lightning import LinearHead
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> LWS()(LinearHead(4, 4), bank).head.scale.shape
        torch.Size([4])
    """

    name = "lws"
    title = "LWS"
    uses_views = True

    def __init__(
        self,
        *,
        scale_bias: bool = False,
        epochs: int = 5,
        lr: float = 0.2,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        batch_size: int = 512,
        sampler: Callable[[Any], LongTailSampler] | None = None,
        seed: int = 0,
        name: str = "lws",
    ) -> None:
        super().__init__(name)
        self.scale_bias = scale_bias
        self.training = HeadTraining(
            epochs=epochs,
            sampler=sampler,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            batch_size=batch_size,
            seed=seed,
        )

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        new = LearnableScaleHead(head, scale_bias=self.scale_bias)
        return Retrained(train_head(train, new, self.training, device=device), self.label)

    def check(self, head: nn.Module, *, validation: bool = True) -> None:
        with temporary_seed(0):
            LearnableScaleHead(head)
            check_sampler(self.training.sampler, head)
