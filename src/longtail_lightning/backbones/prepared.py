"""A backbone behind the preparation that its weights were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning.backbones._base import Backbone

Statistics = Sequence[float] | None


class PreparedBackbone(Backbone):
    """Takes images that were prepared for another network: undoes their normalization, resizes, and normalizes anew.

    Two networks that see the same batch, such as a model and the frozen encoder beside it, seldom want the same size,
    mean and standard deviation.

    **Shapes.** images `(batch, channels, height, width)` as the data give them; features `(batch, num_features)`.

    **When it helps, when it hurts.** Resizing cannot bring back what small images have lost.

    Args:
        backbone: what gives the features.
        size: side of the square that it was trained on; None leaves the size as it is.
        mean: channel means of images in [0, 1] that it was trained with; None for none.
        std: channel standard deviations.
        given_mean: means by which the images were normalized that come in; None for images in [0, 1].
        given_std: their standard deviations.
        interpolation: `"bilinear"` or `"bicubic"`.

    Examples:
        >>> from longtail_lightning import CIFARResNet
        >>> backbone = PreparedBackbone(CIFARResNet(8), size=48, mean=[0.5] * 3, std=[0.5] * 3)
        >>> backbone(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 64])

    **Paper.** None.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        size: int | None = None,
        mean: Statistics = None,
        std: Statistics = None,
        given_mean: Statistics = None,
        given_std: Statistics = None,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:
        super().__init__()
        if interpolation not in ("bilinear", "bicubic"):
            raise LongTailError(f"Unknown interpolation={interpolation!r}: choose 'bilinear' or 'bicubic'.")
        if size is not None:
            require_whole(self, "size", size, 1)
        for one, other, name in ((mean, std, "mean and std"), (given_mean, given_std, "given_mean and given_std")):
            if (one is None) != (other is None):
                raise LongTailError(f"{name} go together: give both, or neither.")
            if other is not None and min(other) <= 0:
                raise LongTailError(f"{name}: standard deviations are positive, got {list(other)}.")
        self.backbone = backbone
        self.num_features = backbone.num_features
        self.size = size
        self.mean, self.std = mean, std
        self.given_mean, self.given_std = given_mean, given_std
        self.interpolation = interpolation

    def given(self, mean: Statistics, std: Statistics) -> None:
        """Say how the images that come in are normalized.

        Args:
            mean: their channel means; None for images in [0, 1].
            std: their standard deviations.
        """
        self.given_mean, self.given_std = _listed(mean), _listed(std)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim == 4:
            images = self.prepare(images)
        features: Tensor = self.backbone(images)
        return features

    def prepare(self, images: Tensor) -> Tensor:
        """The images as the backbone takes them.

        Args:
            images: `(batch, channels, height, width)`.
        """
        # Undone and done again, the same normalization would change the last bits.
        same = _listed(self.mean) == _listed(self.given_mean) and _listed(self.std) == _listed(self.given_std)
        if self.given_mean is not None and self.given_std is not None and not same:
            images = images * _column(self.given_std, images) + _column(self.given_mean, images)
        if self.size is not None and tuple(images.shape[2:]) != (self.size, self.size):
            size = (self.size, self.size)  # in float32: not every device can in less
            resized = F.interpolate(images.float(), size, mode=self.interpolation, antialias=True)
            images = resized.to(images.dtype)
        if self.mean is not None and self.std is not None and not same:
            images = (images - _column(self.mean, images)) / _column(self.std, images)
        return images


def _column(values: Sequence[float], images: Tensor) -> Tensor:
    return torch.tensor(list(values), dtype=images.dtype, device=images.device).view(-1, 1, 1)


def _listed(values: Statistics) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
