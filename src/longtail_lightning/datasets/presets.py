"""The papers' own transforms, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.datasets.image_transforms import ImageTransforms, PaddedCropTransforms, ResizedCropTransforms

TransformsLike = ImageTransforms | str

CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_INATURALIST = ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def _rac(image_size: int) -> ImageTransforms:
    # Table S7: "Crop (train and test) 0.95", "Random crop No" and "Random scale [0.75, 1.33]", timm's bounds of the
    # aspect ratio. So training crops the middle, as testing does, but of a random aspect ratio. RandomResizedCrop of at
    # least 0.95 would find no other part of a photograph of 4:3 than nearly the whole, squeezed as no test image is.
    # The interpolation is that of the pretrained weights.
    return ResizedCropTransforms(
        image_size=image_size,
        resize=round(image_size / 0.95),
        scale=None,
        ratio=(0.75, 1.33),
        auto_augment="rand-m1-n3-mstd0.5",
        interpolation="bicubic",
        mean=[0.5] * 3,
        std=[0.5] * 3,
    )


def _cbd_cifar(mean: Sequence[float], std: Sequence[float]) -> ImageTransforms:
    # The teachers 'data augmentation' of Iscen et al. 2021, on small images; 'standard' is the recipe of CIFAR.
    return PaddedCropTransforms(color_jitter=0.4, noise=0.01, mean=mean, std=std)


_PRESETS: dict[str, Callable[[], ImageTransforms]] = {
    # Cao et al. 2019 and everybody on CIFAR since: pad by 4, crop, mirror.
    "cifar10": lambda: PaddedCropTransforms(mean=CIFAR10[0], std=CIFAR10[1]),
    "cifar100": lambda: PaddedCropTransforms(mean=CIFAR100[0], std=CIFAR100[1]),
    # Ren et al. 2020 (balanced meta-softmax): AutoAugment and Cutout on top.
    "cifar10_auto": lambda: PaddedCropTransforms(
        auto_augment="auto_cifar", cutout_size=16, mean=CIFAR10[0], std=CIFAR10[1]
    ),
    "cifar100_auto": lambda: PaddedCropTransforms(
        auto_augment="auto_cifar", cutout_size=16, mean=CIFAR100[0], std=CIFAR100[1]
    ),
    # Kang et al. 2020: ImageNet-LT and Places-LT with color jitter, iNaturalist without.
    "imagenet": lambda: ResizedCropTransforms(resize=256, color_jitter=0.4),
    "places": lambda: ResizedCropTransforms(resize=256, color_jitter=0.4),
    "inaturalist": lambda: ResizedCropTransforms(resize=256, mean=_INATURALIST[0], std=_INATURALIST[1]),
    # Iscen et al. 2021 (class-balanced distillation): images in [0, 1]; teachers 'standard' and 'data augmentation'.
    "cbd_standard": lambda: ResizedCropTransforms(resize=256, mean=None, std=None),
    "cbd_augmented": lambda: ResizedCropTransforms(resize=256, color_jitter=0.4, noise=0.01, mean=None, std=None),
    "cbd_cifar10": lambda: _cbd_cifar(*CIFAR10),
    "cbd_cifar100": lambda: _cbd_cifar(*CIFAR100),
    # Ma et al. 2021 (BALLAD) and Shi et al. 2024 (LIFT): CLIP's own normalization.
    "ballad": lambda: ResizedCropTransforms(
        resize=224, scale=(0.5, 1.0), color_jitter=0.4, interpolation="bicubic", mean=_CLIP[0], std=_CLIP[1]
    ),
    "clip": lambda: ResizedCropTransforms(interpolation="bicubic", mean=_CLIP[0], std=_CLIP[1]),
    # Long et al. 2022 (RAC), at 224 and 384 pixels.
    "rac": lambda: _rac(224),
    "rac_384": lambda: _rac(384),
    "none": ImageTransforms,
}

PRESETS = tuple(_PRESETS)


def as_transforms(transforms: TransformsLike) -> ImageTransforms:
    """Transforms as they are, or the preset of that name."""
    if isinstance(transforms, ImageTransforms):
        return transforms
    if transforms not in _PRESETS:
        raise LongTailError(
            f"There are no transforms named {transforms!r}. "
            f"{did_you_mean(str(transforms), PRESETS)} Or pass ResizedCropTransforms(...)."
        )
    return _PRESETS[transforms]()
