"""No backbone at all, for data that are features already."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones._base import Backbone


class IdentityBackbone(Backbone):
    """Hands on what it is given, flattened.

    **Shapes.** `(batch, ...)` with `num_features` numbers per item; features `(batch, num_features)`.

    **When it helps, when it hurts.** For `FeatureDataModule`, whose items are features.

    Args:
        num_features: width of the features.

    Examples:
        >>> import torch
        >>> IdentityBackbone(64)(torch.zeros(2, 64)).shape
        torch.Size([2, 64])

    **Paper.** None.

    **Differences from the authors' code.** None.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)
        if features.shape[1] != self.num_features:
            raise LongTailError(
                f"IdentityBackbone was made for num_features={self.num_features} but the data give "
                f"{features.shape[1]}: use IdentityBackbone(datamodule.num_features)."
            )
        return features
