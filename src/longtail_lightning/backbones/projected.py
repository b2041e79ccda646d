"""A backbone with a layer on top that changes the width of its features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._number_range import require_whole
from longtail_lightning.backbones._base import Backbone


class ProjectedBackbone(Backbone):
    r"""The features of a backbone, mapped to another width by a trained linear layer.

    **What it changes.** What comes after it, a head, a bank of features or class means, sees the projected features.

    **Formula.** \(h(v) = A v + b\), or \(\max(0, A v + b)\).

    **Shapes.** images as the backbone takes them; features `(batch, num_features)`.

    **When it helps, when it hurts.** For a student whose teachers have wider features together than it has
    (`Distillation` adds one by itself), and for a narrow layer before many classes. With ReLU all features share a
    direction, so cosines between any two are high.

    Args:
        backbone: what gives the features.
        num_features: width of the result.
        relu: whether negative values become 0.

    Examples:
        >>> import torch
        >>> from longtail_lightning import CIFARResNet
        >>> ProjectedBackbone(CIFARResNet(8), 192)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 192])

    **Paper.** Iscen et al., Class-Balanced Distillation for Long-Tailed Visual Recognition, BMVC 2021, eq. 4.

    **Differences from the authors' code.** Theirs has the ReLU, of which the paper does not speak.
    """

    def __init__(self, backbone: Backbone, num_features: int, *, relu: bool = False) -> None:
        super().__init__()
        require_whole(self, "num_features", num_features, 1)
        self.backbone = backbone
        self.num_features = num_features
        self.relu = relu
        self.projection = nn.Linear(backbone.num_features, num_features)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.projection(self.backbone(images))
        return F.relu(features) if self.relu else features
