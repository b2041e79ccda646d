"""What is done to images between the file and the model, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.augment import color_jitter, crop_and_flip, cutout, gaussian_noise
from longtail_lightning.datasets.image_steps import RandomAspectCenter, TimmRandAugment, is_timm_policy
from longtail_lightning.datasets.shorter_side import ResizeShorterSide

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_POLICIES: dict[str, Callable[[], v2.Transform]] = {
    "rand": lambda: v2.RandAugment(num_ops=2, magnitude=9),
    "auto": lambda: v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
    "auto_cifar": lambda: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    "trivial": lambda: v2.TrivialAugmentWide(),
}


class ImageTransforms:
    """Base of the transforms: images stay uint8 until they are whole batches on the device.

    `train` and `evaluate` see one uint8 image `(channels, height, width)` in a loading process, or
    are None when there is nothing to do; `augment` sees a training batch on its device. Then the batch is
    scaled to [0, 1] and normalized by `mean` and `std`. A child sets what it needs.

    Args:
        mean: channel means of images in [0, 1]; None leaves them as they are.
        std: channel standard deviations.

    Examples:
        >>> ImageTransforms(mean=[0.5] * 3, std=[0.25] * 3).train is None
        True
    """

    train: Callable[[Tensor], Tensor] | None = None
    evaluate: Callable[[Tensor], Tensor] | None = None

    def __init__(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        if (mean is None) != (std is None):
            raise LongTailError("mean and std go together: give both, or neither.")
        if std is not None and min(std) <= 0:
            raise LongTailError(f"std={list(std)} must be positive; it refers to images in [0, 1].")
        self.mean = mean
        self.std = std

    def augment(self, images: Tensor, keys: np.ndarray) -> Tensor:
        """Random augmentation of a training batch.

        Args:
            images: the batch on its device, before it is scaled.
            keys: an int64 number for each image, a hash of (seed, view, place in the split). What is drawn from an
                image's key is the same in any batch. The global CPU generator is seeded, too, but once per batch:
                what is drawn from that depends on the batch that an image is in.
        """
        return images

    def describe_evaluation(self) -> dict[str, Any] | None:
        """What `evaluate` does, in plain values for the card of a checkpoint; None when it cannot be said."""
        known = self.evaluate is None
        return {"resize": None, "crop": None, "crops": 1, "interpolation": "bilinear"} if known else None


class PaddedCropTransforms(ImageTransforms):
    """For small images of one size: shift by a few pixels and mirror, the CIFAR recipe.

    The shift and the mirroring run on whole batches. AutoAugment and its kin run per image, before.

    Args:
        padding: largest shift in pixels.
        flip: whether to mirror half of the images.
        auto_augment: a policy of torchvision, `"auto_cifar"`, `"auto"`, `"rand"` or `"trivial"`, or RandAugment in the
            words of timm, such as `"rand-m9-mstd0.5"`.
        cutout_size: side of a blanked square, 0 for none (BALMS uses 16 together with `"auto_cifar"`).
        color_jitter: strength of random brightness, contrast and saturation, 0 for none.
        noise: standard deviation of Gaussian noise, for images in [0, 1].
        mean: channel means of images in [0, 1].
        std: channel standard deviations.

    Examples:
        >>> PaddedCropTransforms(padding=2).augment(torch.zeros(4, 3, 32, 32), np.arange(4)).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        *,
        padding: int = 4,
        flip: bool = True,
        auto_augment: str | None = None,
        cutout_size: int = 0,
        color_jitter: float = 0.0,
        noise: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(mean=mean, std=std)
        self.padding = padding
        self.flip = flip
        self.color_jitter, self.noise = color_jitter, noise
        self.cutout_size = cutout_size
        self.auto_augment = auto_augment
        if auto_augment is not None:
            self.train = _policy(auto_augment)

    def augment(self, images: Tensor, keys: np.ndarray) -> Tensor:
        images = crop_and_flip(images, keys, padding=self.padding, flip=self.flip)
        if self.color_jitter:
            images = color_jitter(images, keys, strength=self.color_jitter)
        if self.noise:
            images = gaussian_noise(images, keys, sigma=self.noise)
        return cutout(images, keys, size=self.cutout_size) if self.cutout_size else images


class ResizedCropTransforms(ImageTransforms):
    """For photographs of any size: a random part is resized and mirrored; evaluation takes the center.

    Args:
        image_size: side of the square that the model sees.
        resize: shorter side of the image from which evaluation crops; `image_size * 8 / 7` when None.
        scale: smallest and largest share of the area that a random part has; None for no random part: training sees
            the same middle as evaluation, but for its aspect ratio.
        ratio: smallest and largest aspect ratio, width over height, of what training sees.
        flip: whether to mirror half of the images.
        color_jitter: strength of random brightness, contrast and saturation, 0 for none.
        auto_augment: a policy of torchvision, `"rand"`, `"auto"` or `"trivial"`, or RandAugment in the words of timm,
            such as `"rand-m9-mstd0.5"`.
        noise: standard deviation of Gaussian noise on images in [0, 1] (class-balanced distillation: 0.01).
        crops: views per evaluation image whose logits are averaged: 1 is the center, 5 adds the
            corners, 10 their mirror images.
        interpolation: `"bilinear"` or `"bicubic"`.
        mean: channel means of images in [0, 1].
        std: channel standard deviations.

    Examples:
        >>> transforms = ResizedCropTransforms(image_size=64, crops=5)
        >>> image = torch.zeros(3, 90, 120, dtype=torch.uint8)
        >>> transforms.train(image).shape, transforms.evaluate(image).shape
        (torch.Size([3, 64, 64]), torch.Size([5, 3, 64, 64]))
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        resize: int | None = None,
        scale: tuple[float, float] | None = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        color_jitter: float = 0.0,
        auto_augment: str | None = None,
        noise: float = 0.0,
        crops: Literal[1, 5, 10] = 1,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        mean: Sequence[float] | None = IMAGENET[0],
        std: Sequence[float] | None = IMAGENET[1],
    ) -> None:
        super().__init__(mean=mean, std=std)
        if image_size < 1 or (resize is not None and resize < image_size):
            raise LongTailError(
                f"image_size={image_size}, resize={resize}: evaluation crops image_size pixels "
                "from an image whose shorter side is resize, so resize must not be smaller."
            )
        if crops not in (1, 5, 10):
            raise LongTailError(f"crops={crops}: choose 1, 5 or 10.")
        if interpolation not in ("bilinear", "bicubic"):
            raise LongTailError(f"interpolation={interpolation!r}: choose 'bilinear' or 'bicubic'.")
        if scale is not None and not 0 < scale[0] <= scale[1]:
            raise LongTailError(f"scale={tuple(scale)} must be two shares of the area, the smaller first.")
        if not 0 < ratio[0] <= ratio[1]:
            raise LongTailError(f"ratio={tuple(ratio)} must be two aspect ratios, the smaller first.")
        self.image_size = image_size
        self.resize = resize if resize is not None else round(image_size * 8 / 7)
        self.crops = crops
        self.interpolation = interpolation
        self.noise = noise
        mode = InterpolationMode(interpolation)
        steps: list[Callable[[Any], Any]] = [
            v2.RandomResizedCrop(image_size, scale, ratio, interpolation=mode, antialias=True)
            if scale is not None
            else RandomAspectCenter(image_size, share=image_size / self.resize, ratio=ratio, interpolation=mode)
        ]
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        if auto_augment is not None:
            steps.append(_policy(auto_augment))
        if color_jitter:
            steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
        self.train = _Chain(steps)
        shown: list[Callable[[Any], Any]] = [ResizeShorterSide(self.resize, mode)]
        shown.append(v2.CenterCrop(image_size) if crops == 1 else _Crops(image_size, mirrored=crops == 10))
        self.evaluate = _Chain(shown)

    def augment(self, images: Tensor, keys: np.ndarray) -> Tensor:
        return gaussian_noise(images, keys, sigma=self.noise) if self.noise else images

    def describe_evaluation(self) -> dict[str, Any]:
        return {
            "resize": self.resize,
            "crop": self.image_size,
            "crops": self.crops,
            "interpolation": self.interpolation,
        }


class _Chain:
    """Transforms one after the other; without the bookkeeping of v2.Compose."""

    def __init__(self, steps: Sequence[Callable[[Any], Any]]) -> None:
        self.steps = steps

    def __call__(self, image: Tensor) -> Tensor:
        for step in self.steps:
            image = step(image)
        return image


class _Crops:
    """Center and corners of an image as one tensor `(crops, channels, size, size)`."""

    def __init__(self, size: int, *, mirrored: bool) -> None:
        self.crop = v2.TenCrop(size) if mirrored else v2.FiveCrop(size)

    def __call__(self, image: Tensor) -> Tensor:
        return torch.stack(self.crop(image))


def _policy(name: str) -> Any:
    if name in _POLICIES:
        return _POLICIES[name]()
    if is_timm_policy(name):
        return TimmRandAugment(name)
    raise LongTailError(
        f"auto_augment={name!r}: choose one of {', '.join(map(repr, _POLICIES))}, or 'rand-m9-mstd0.5' and its like."
    )
