"""A mean and a covariance for each class."""

from __future__ import annotations

from torch import nn

from longtail_lightning.features import FeatureBank
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.heads import FeCAMHead
from longtail_lightning.methods.base import Device, Retrained, Retraining


class FeCAM(Retraining):
    """Class means with a covariance for each class: no training. See `FeCAMHead`.

    Args:
        tukey: exponent of the features.
        gamma1: how much of the mean variance is added to each variance.
        gamma2: how much of the mean covariance is added to each covariance.
        pooled: weight, in images, of the covariance that all classes share.
        name: what files are called.

    Examples:
        >>> import torch
        >>> from longtail_lightning import LinearHead
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> FeCAM()(LinearHead(4, 4), bank).head(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """

    name = "fecam"
    title = "FeCAM"

    def __init__(
        self,
        *,
        tukey: float = 0.5,
        gamma1: float = 1.0,
        gamma2: float = 1.0,
        pooled: float = 10.0,
        name: str = "fecam",
    ) -> None:
        super().__init__(name)
        FeCAMHead(1, 1, tukey=tukey, gamma1=gamma1, gamma2=gamma2, pooled=pooled)  # it refuses impossible values
        self.tukey = tukey
        self.gamma1 = gamma1
        self.gamma2 = gamma2
        self.pooled = pooled

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        options = {"tukey": self.tukey, "gamma1": self.gamma1, "gamma2": self.gamma2, "pooled": self.pooled}
        new = FeCAMHead(train.num_features, train.num_classes, **options)
        return Retrained(new.to(choose_device(device, head)).fit(train).cpu(), self.label)
