"""The embedded data set, so that everything runs without a download."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, require_possible
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.data.options import BatchOptions
from longtail_lightning.datasets.augment import crop_and_flip
from longtail_lightning.datasets.long_tail import long_tail_counts
from longtail_lightning.datasets.synthetic_images import SyntheticImages, class_names


class SyntheticLongTail(LongTailDataModule):
    """A long-tailed set of drawn 32x32 images with balanced validation and test splits.

    Classes come in families of up to five: a family shares a shape, its members differ in color and
    stripes, with some overlap between neighbors. Class 0 has the most images. The members of a family
    are spread from head to tail, and so are the colors: all that makes up a rare class can be learned
    from frequent ones, which also look like it.

    Args:
        num_classes: number of classes.
        imbalance_factor: largest over smallest training count.
        max_count: training images of class 0.
        val_per_class: validation images of each class.
        test_per_class: test images of each class.
        batch_size: images per batch and process.
        augment: shift and flip training images at random.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> dm = SyntheticLongTail(num_classes=10, max_count=50, imbalance_factor=10)
        >>> dm.class_counts
        ClassCounts([50, 38, 29, 23, 17, 13, 10, 8, 6, 5])
        >>> dm.class_names[:2]
        ['fan-3 red', 'fan-4 yellow']
    """

    mean = (0.44, 0.44, 0.44)
    std = (0.24, 0.24, 0.24)

    def __init__(
        self,
        *,
        num_classes: int = 50,
        imbalance_factor: float = 100.0,
        max_count: int = 500,
        val_per_class: int = 20,
        test_per_class: int = 40,
        batch_size: int = 64,
        augment: bool = True,
        **options: Unpack[BatchOptions],
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            **options,
        )
        if min(val_per_class, test_per_class) < 1:
            raise LongTailError("val_per_class and test_per_class must be at least 1: the splits hold every class.")
        require_possible(num_classes)
        self._counts = {
            "train": long_tail_counts(num_classes, max_count, imbalance_factor),
            "val": ClassCounts([val_per_class] * num_classes),
            "test": ClassCounts([test_per_class] * num_classes),
        }
        self.augment = augment

    @property
    def num_classes(self) -> int:
        return self._counts["train"].num_classes

    def build(self, split: Split) -> SyntheticImages:
        return SyntheticImages(self._counts[split], split=split, seed=self.seed)

    def build_class_names(self) -> list[str]:
        return class_names(self.num_classes)

    def augment_batch(self, images: Tensor, keys: np.ndarray) -> Tensor:
        return crop_and_flip(images, keys, padding=3) if self.augment else images
