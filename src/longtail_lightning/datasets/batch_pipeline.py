"""What happens to a batch on its device: augment, scale to [0, 1], normalize, mix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import isolated_rng
from longtail_lightning.datasets.augment import item_keys

_MIX = 1  # tells the random numbers of mixing from those of augmentation

Augment = Callable[[Tensor, np.ndarray], Tensor]


class Batch(NamedTuple):
    """A batch of a loader, taken apart.

    Args:
        images: as the loader gives them.
        target: labels.
        extra: what else the data set returns for an item.
        items: int64, `(batch, 2)`: place in the split and view; None when the loader does not say.
    """

    images: Tensor
    target: Any
    extra: list[Any]
    items: np.ndarray | None


def take_apart(batch: Any, owner: str) -> Batch:
    """The parts of a batch `(images, labels, ...)`; our loaders put its items, a numpy array, at the end.

    Args:
        batch: as the loader gives it.
        owner: what messages call the data.
    """
    if not isinstance(batch, (list, tuple)) or len(batch) < 2:
        raise LongTailError(
            f"{owner} gives batches as {type(batch).__name__}, expected (images, labels): "
            "let the data set return (image, label), or override on_after_batch_transfer."
        )
    images, target, *extra = batch
    items = extra.pop() if extra and isinstance(extra[-1], np.ndarray) else None
    return Batch(images, target, extra, items)


def first_items(number: int, *, view: int = 0) -> np.ndarray:
    """The first items of a split, in the form in which a loader says which items a batch holds."""
    return np.stack([np.arange(number), np.full(number, view)], axis=1)


class BatchPipeline:
    """Augments, normalizes and mixes batches; what is random depends on (seed, view, place in the split).

    Args:
        seed: seed of what is random.
        mean: channel means of images in [0, 1]; None leaves them as they are.
        std: channel standard deviations.
        num_classes: number of classes in the targets that mixing makes.
        mixup_alpha: strength of mixup, 0 for none.
        cutmix_alpha: strength of cutmix, 0 for none; with both, each batch gets one of them.

    Examples:
        >>> pipeline = BatchPipeline(mean=[0.5], std=[0.5])
        >>> pipeline.normalize(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)).flatten().tolist()
        [-1.0, 1.0]
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        num_classes: int | None = None,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
    ) -> None:
        self.seed = seed
        self.mean = mean
        self.std = std
        self._mixes: list[v2.Transform] = []
        if mixup_alpha:
            self._mixes.append(v2.MixUp(alpha=mixup_alpha, num_classes=num_classes))
        if cutmix_alpha:
            self._mixes.append(v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes))
        self._kept: dict[Any, tuple[Tensor, Tensor]] = {}

    def augment(self, images: Tensor, items: np.ndarray, augment: Augment) -> Tensor:
        """Apply `augment(images, keys)`.

        Args:
            images: a batch.
            items: place and view of each of its items.
            augment: draws from the keys, or from the global CPU generator, which the batch's first key seeds.
        """
        keys = item_keys(items, seed=self.seed)
        with isolated_rng(int(keys[0]) if len(keys) else 0):
            return augment(images, keys)

    def normalize(self, images: Tensor) -> Tensor:
        """Scale 8-bit images to [0, 1], and normalize by mean and std."""
        if images.dtype == torch.uint8:
            # Scaling is part of mean and std: two passes over the batch instead of three.
            mean, std = self._statistics(255.0, images.device, torch.float32)
            images = _as_float(images).sub_(mean).div_(std)
        elif self.mean is not None:
            mean, std = self._statistics(1.0, images.device, images.dtype)
            images = (images - mean).div_(std)
        return images

    def mix(self, images: Tensor, target: Tensor, items: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mix the images of a batch with each other; one draw serves the batch, so it depends on the images in it."""
        if not self._mixes:
            return images, target
        with isolated_rng(int(item_keys(items[:1], seed=self.seed)[0]), _MIX):
            mixed: tuple[Tensor, Tensor] = v2.RandomChoice(self._mixes)(images, target.long())
        return mixed

    def _statistics(self, white: float, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and std of images whose brightest value is `white`, kept on the device to save a copy per batch."""
        mean, std = (0.0,) if self.mean is None else tuple(self.mean), (1.0,) if self.std is None else tuple(self.std)
        key = (mean, std, white, device, dtype)
        if key not in self._kept:
            with torch.inference_mode(False):
                scaled = [torch.tensor(values, dtype=torch.float64).mul(white).to(dtype) for values in (mean, std)]
                self._kept[key] = (scaled[0].to(device).view(-1, 1, 1), scaled[1].to(device).view(-1, 1, 1))
        return self._kept[key]


def _as_float(images: Tensor) -> Tensor:
    """A float copy of uint8 images; on the CPU, numpy's large memory pages make it three times faster."""
    if images.device.type != "cpu":
        return images.float()
    return torch.from_numpy(np.empty(images.shape, dtype=np.float32)).copy_(images)
