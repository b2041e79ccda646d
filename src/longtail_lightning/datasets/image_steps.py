"""Random steps for one image that torchvision does not have; they run in the loading processes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from longtail_lightning._errors import LongTailError

# timm passes over what it does not know, so that a slip of the pen would train without it.
_WORD = r"m\d+|n\d+|p\d+(\.\d+)?|mstd\d+(\.\d+)?|mmax\d+|inc[01]|tweights|t3aw?"


class RandomAspectCenter:
    """The middle of an image, stretched to a square: as evaluation takes it, but of a random aspect ratio.

    The part lies within the square that evaluation takes, so it fits into an image of any shape.

    Args:
        size: side of the result.
        share: of the shorter side of the image that the longer side of the part has.
        ratio: smallest and largest width over height.
        interpolation: of the pixels.

    Examples:
        >>> step = RandomAspectCenter(8, share=0.95, ratio=(3 / 4, 4 / 3), interpolation=InterpolationMode.BILINEAR)
        >>> step(torch.zeros(3, 20, 30)).shape
        torch.Size([3, 8, 8])
    """

    def __init__(
        self, size: int, *, share: float, ratio: tuple[float, float], interpolation: InterpolationMode
    ) -> None:
        self.size, self.share, self.interpolation = size, share, interpolation
        self.logarithms = math.log(ratio[0]), math.log(ratio[1])

    def __call__(self, image: Tensor) -> Tensor:
        # Uniform in the logarithm, as in RandomResizedCrop: as many wide parts as high ones.
        ratio = math.exp(torch.empty(()).uniform_(*self.logarithms).item())
        side = self.share * min(image.shape[-2:])
        height, width = (max(1, round(side * min(1.0, one))) for one in (1 / ratio, ratio))
        top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
        size = [self.size, self.size]
        part: Tensor = v2.functional.resized_crop(
            image, top, left, height, width, size, interpolation=self.interpolation, antialias=True
        )
        return part


class TimmRandAugment:
    """RandAugment of timm, which works on PIL images and draws from the generators of Python and numpy.

    Unlike timm's, posterizing keeps one bit at least.

    Args:
        words: such as `"rand-m9-mstd0.5"`.
    """

    def __init__(self, words: str) -> None:
        from timm.data.auto_augment import rand_augment_transform

        made: Any = rand_augment_transform
        self.apply = made(words, {"translate_pct": 0.45, "img_mean": (128, 128, 128)})
        for operation in self.apply.ops:
            if operation.name.startswith("Posterize"):
                operation.level_fn = partial(_bits_kept, operation.level_fn)

    def __call__(self, image: Tensor) -> Tensor:
        channels = image.shape[0]
        if channels not in (1, 3):
            raise LongTailError(f"RandAugment of timm takes images of 1 or 3 channels, not of {channels}.")
        # Gray is filled with a color, which timm only has for three channels; all of them stay the same.
        picture: Any = v2.functional.to_pil_image(image.expand(3, -1, -1))  # type: ignore[no-untyped-call]
        changed: Tensor = v2.functional.pil_to_tensor(self.apply(picture))
        return changed[:channels]


def _bits_kept(bits_of: Callable[[float, Any], tuple[int]], level: float, hparams: Any) -> tuple[int]:
    # Low magnitudes keep no bit: black images with old versions of Pillow, an error with new ones.
    return (max(1, bits_of(level, hparams)[0]),)


def is_timm_policy(words: str) -> bool:
    """Whether these are words of timm for RandAugment, all of which it knows.

    Args:
        words: such as `"rand-m9-mstd0.5"`.

    Examples:
        >>> is_timm_policy("rand-m9-mstd0.5"), is_timm_policy("rand-m9-std0.5")
        (True, False)
    """
    return re.fullmatch(rf"rand(-({_WORD}))+", words) is not None
