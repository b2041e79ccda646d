"""Resize images by their shorter side, as evaluation does."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from longtail_lightning.datasets.decode import MAX_PIXELS, TooLargeImageError


class ResizeShorterSide:
    """Resize an image so that its shorter side has this length; refuse a line of pixels, which would fill the memory.

    Args:
        size: the length.
        interpolation: of the pixels.

    Examples:
        >>> import torch
        >>> ResizeShorterSide(8, InterpolationMode.BILINEAR)(torch.zeros(3, 4, 6)).shape
        torch.Size([3, 8, 12])
    """

    def __init__(self, size: int, interpolation: InterpolationMode) -> None:
        self.size = size
        self.resize = v2.Resize(size, interpolation=interpolation, antialias=True)

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        longer = max(height, width) * self.size // max(1, min(height, width))
        if longer * self.size > MAX_PIXELS:
            raise TooLargeImageError(
                f"The image has {width:,} x {height:,} pixels, {self.size} x {longer:,} when resized: crop it."
            )
        resized: Tensor = self.resize(image)
        return resized
