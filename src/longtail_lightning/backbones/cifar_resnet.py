"""The small residual networks for 32x32 images (He et al. 2016, section 4.2)."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones._base import Backbone


class CIFARResNet(Backbone):
    """ResNet-20/32/44/56 for CIFAR: three stages of `(depth - 2) / 6` blocks with 16, 32 and 64 channels.

    **Shapes.** images `(batch, in_channels, 32, 32)`, any size that halves twice; features `(batch, 4 * width)`.

    **When it helps, when it hurts.** The backbone of all CIFAR-LT tables: 0.46 M parameters at depth
    32. Some public "ResNet-32" are four times as wide (16 times the parameters); compare like with
    like.

    Args:
        depth: 20, 32, 44, 56, ... (6n + 2).
        width: channels of the first stage.
        in_channels: channels of the images.
        last_relu: whether the features pass a last ReLU; without it they can be negative, for a cosine
            classifier (`"cos(noRelu)"` of Kang et al. 2020, appendix B.7).
        weights: file of a checkpoint that the weights are read from, see `load_weights`.

    Examples:
        >>> import torch
        >>> backbone = CIFARResNet(depth=32)
        >>> backbone(torch.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in backbone.parameters())
        (torch.Size([2, 64]), 463504)

    **Paper.** He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.

    **Differences from the authors' code.** None: option-A shortcuts (subsampling and zero channels,
    no parameters), He initialization.
    """

    def __init__(
        self,
        depth: int = 32,
        width: int = 16,
        in_channels: int = 3,
        last_relu: bool = True,
        *,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise LongTailError(f"CIFARResNet has depths 6n + 2 (20, 32, 44, 56), got depth={depth}.")
        self.depth, self.width, self.in_channels = depth, width, in_channels
        self.last_relu = last_relu
        self.num_features = 4 * width
        self.stem = nn.Sequential(_conv3x3(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            out = width * 2**stage
            for index in range((depth - 2) // 6):
                blocks.append(_Block(channels, out, stride=2 if stage > 0 and index == 0 else 1))
                channels = out
        blocks[-1].relu = last_relu  # type: ignore[assignment]
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self._load(weights)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.blocks(self.stem(images))
        return maps.mean((2, 3))


class _Block(nn.Module):
    relu: bool = True

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
        self.conv2, self.norm2 = _conv3x3(out_channels, out_channels, 1), nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, maps: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(maps)), inplace=True)))
        if self.stride > 1 or self.new_channels:
            # Option A: every second pixel, and zeros for the new channels, half on each side.
            before = self.new_channels // 2
            maps = F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))
        return F.relu(out + maps, inplace=True) if self.relu else out + maps


def _conv3x3(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
