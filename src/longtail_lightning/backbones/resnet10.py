"""ResNet-10, the small ImageNet-LT backbone."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from longtail_lightning.backbones._base import Backbone


class ResNet10(Backbone):
    """A ResNet with one basic block per stage: 4.9 M parameters.

    **Shapes.** images `(batch, 3, height, width)`; features `(batch, 512)`.

    **When it helps, when it hurts.** The from-scratch ImageNet-LT baseline of many papers; cheap to train.

    Args:
        weights: file of a checkpoint that the weights are read from, see `load_weights`.

    Examples:
        >>> import torch
        >>> ResNet10()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512])

    **Paper.** Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019.

    **Differences from the authors' code.** None.
    """

    def __init__(self, *, weights: str | Path | None = None) -> None:
        super().__init__()
        from torchvision.models.resnet import BasicBlock, ResNet

        self.network = ResNet(BasicBlock, [1, 1, 1, 1])
        self.network.fc = nn.Identity()  # type: ignore[assignment]
        self.num_features = 512
        self._load(weights)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features
