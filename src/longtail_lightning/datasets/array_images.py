"""A data set that is two tensors: images of one size and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import as_labels
from longtail_lightning.datasets.augment import to_device


class ArrayImages(Dataset[tuple[Tensor, int]]):
    """Images in memory, on any device, and their labels; whole batches are gathered at once.

    Args:
        images: uint8, `(N, channels, height, width)`.
        labels: class index of each image.

    Examples:
        >>> dataset = ArrayImages(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), [0, 0, 0, 1, 1])
        >>> images, labels = dataset.batch([4, 0])
        >>> images.shape, labels.tolist()
        (torch.Size([2, 3, 8, 8]), [1, 0])
    """

    def __init__(self, images: Tensor, labels: Any) -> None:
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise LongTailError(
                f"ArrayImages takes uint8 images (N, channels, height, width), got {images.dtype} of shape "
                f"{tuple(images.shape)}: ArrayLT converts other arrays."
            )
        if 0 in images.shape[1:]:
            raise LongTailError(f"The images have the shape {tuple(images.shape[1:])}: they are empty.")
        self.images = images
        self.labels = as_labels(labels)
        if len(self.labels) != len(images):
            raise LongTailError(f"{len(images)} images but {len(self.labels)} labels: give one label per image.")
        self._targets = self.labels.to(images.device)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images and labels of many items, gathered where the images are."""
        where = to_device(torch.as_tensor(indices, dtype=torch.int64), self.images.device)
        # Ten times faster than images[where].
        return self.images.index_select(0, where), self._targets.index_select(0, where)

    def to(self, device: torch.device | str) -> ArrayImages:
        """The same data set with its images on that device."""
        return self if self.images.device == torch.device(device) else ArrayImages(self.images.to(device), self.labels)


class ResidentImages:
    """Moves data sets of images in memory to a device, once; splits that are subsets of the same images share them."""

    def __init__(self) -> None:
        self._moved: dict[tuple[int, torch.device], tuple[Any, Any]] = {}

    def __call__(self, dataset: Dataset[Any], device: torch.device | str) -> Dataset[Any]:
        """A data set, or a subset of one, whose images live on that device."""
        device, base, indices = torch.device(device), dataset, None
        while isinstance(base, Subset):
            indices = [int(base.indices[i]) for i in (range(len(base)) if indices is None else indices)]
            base = base.dataset
        if not hasattr(base, "to") or not hasattr(base, "batch"):
            raise LongTailError(
                f"device_resident=True needs images in memory, {type(base).__name__} has none to move: "
                "use ArrayLT, CIFAR10LT or CIFAR100LT, or set device_resident=False."
            )
        if any(there != device for _, there in self._moved):
            self._moved.clear()  # another trainer, on another device
        if (id(base), device) not in self._moved:
            # Evaluation may ask first, and autograd refuses tensors that were made in inference mode. The original is
            # kept, so that no other object gets its id.
            with torch.inference_mode(False):
                self._moved[id(base), device] = (base, base.to(device))
        there = self._moved[id(base), device][1]
        return there if indices is None else Subset(there, indices)
