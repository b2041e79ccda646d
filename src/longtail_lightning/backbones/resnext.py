"""ResNeXt (32x4d), also of 152 layers, which neither timm nor torchvision has."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones._base import Backbone

_BLOCKS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}


class ResNeXt(Backbone):
    """ResNeXt-50, 101 or 152 with 32 groups of width 4, for training from scratch.

    **Shapes.** images `(batch, 3, height, width)`; features `(batch, 2048)`.

    **When it helps, when it hurts.** The networks of the ImageNet-LT tables: 23.0, 42.1 and 57.9 M parameters. Those of
    timm that go by the same name begin with the last batch norm of each block at zero. Where pretrained
    weights are allowed, take a `TimmBackbone` that has them.

    Args:
        depth: 50, 101 or 152.
        weights: file of a checkpoint that the weights are read from, see `load_weights`.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     ResNeXt(depth=152)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 2048])

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, table 2.

    **Differences from the authors' code.** None.
    """

    def __init__(self, depth: int = 50, *, weights: str | Path | None = None) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise LongTailError(f"ResNeXt has depths {', '.join(map(str, _BLOCKS))}, got depth={depth}.")
        from torchvision.models.resnet import Bottleneck, ResNet

        self.depth = depth
        self.network = ResNet(Bottleneck, _BLOCKS[depth], groups=32, width_per_group=4)
        self.network.fc = nn.Identity()  # type: ignore[assignment]
        self.num_features = 2048
        self._load(weights)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features
