"""Nearest class mean."""

from __future__ import annotations

from typing import Literal

from torch import nn

from longtail_lightning.features import FeatureBank
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.heads import NearestClassMeanHead
from longtail_lightning.methods.base import Device, Retrained, Retraining


class NCM(Retraining):
    """Nearest class mean: no training.

    Args:
        metric: `"cosine"` or `"euclidean"`; the authors' code has the latter.
        center: whether to subtract the mean of all training features.
        normalize: whether to scale each feature to norm 1.
        name: what files are called.

    Examples:
        >>> import torch
        >>> from longtail_lightning import LinearHead
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> NCM()(LinearHead(4, 4), bank).head(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """

    name = "ncm"
    title = "NCM"

    def __init__(
        self,
        *,
        metric: Literal["cosine", "euclidean"] = "cosine",
        center: bool = True,
        normalize: bool = True,
        name: str = "ncm",
    ) -> None:
        super().__init__(name)
        NearestClassMeanHead(1, 1, metric=metric)  # it refuses an unknown metric
        self.metric = metric
        self.center = center
        self.normalize = normalize

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        new = NearestClassMeanHead(
            train.num_features,
            train.num_classes,
            metric=self.metric,
            center=self.center,
            normalize=self.normalize,
        )
        return Retrained(new.to(choose_device(device, head)).fit(train).cpu(), self.label)
