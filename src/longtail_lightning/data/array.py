"""Images that are arrays: numpy files, tensors, MedMNIST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.array_images import ArrayImages
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.read_arrays import (
    ArraySource,
    Layout,
    class_names_in,
    has_split,
    read_images,
    read_source,
)


class ArrayLT(LongTailDataModule):
    """Images and labels from an .npz, .npy or .pt file, or from arrays and tensors in memory.

    One .npz with all splits is enough: the names x_train, y_train, x_test, ... and MedMNIST's train_images,
    train_labels, val_images, ... are understood, and so are `classes` or `class_names` in it. Images are
    uint8 or floating point in [0, 1], channels last, channels first or without channels; labels `(N,)` or
    `(N, 1)`. Nothing is unpickled.

    Args:
        train: an .npz or .pt file, a pair (images, labels) of arrays, tensors or .npy files, or a mapping
            from names to arrays.
        val: the same for validation; by default what `train` holds for it.
        test: the same for the test; by default what `train` holds for it.
        class_names: one name per class; by default what `train` holds, or the numbers.
        keys: names in the files that differ from the usual ones, for example `{train_images: X, train_labels: Y}`.
        layout: `"hwc"` or `"chw"`, when the shape does not tell where the channels are.
        name: what subsets are called; by default the name of the file.
        transforms: transforms, or the name of a preset such as `"cifar10"`.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> import numpy as np
        >>> images, labels = np.zeros((30, 28, 28), dtype=np.uint8), np.repeat([0, 1, 2], 10)
        >>> data = ArrayLT((images, labels), imbalance_factor=10)
        >>> data.class_counts, tuple(data.dataset("train")[0][0].shape)
        (ClassCounts([10, 3, 1]), (3, 28, 28))
    """

    def __init__(
        self,
        train: ArraySource,
        *,
        val: ArraySource | None = None,
        test: ArraySource | None = None,
        class_names: Sequence[str] | None = None,
        keys: Mapping[str, str] | None = None,
        layout: Layout | None = None,
        name: str | None = None,
        transforms: TransformsLike = "none",
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(
            transforms=transforms,
            **options,
        )
        self.sources: dict[str, ArraySource | None] = {"train": train, "val": val, "test": test}
        self.keys = keys
        self.layout = layout
        self.name = name
        if isinstance(class_names, str):
            raise LongTailError(f"class_names are one text, {class_names!r}: give a list with one name per class.")
        self._given_names = class_names

    def build(self, split: Split) -> ArrayImages | None:
        if split == "train":
            return self._train_images
        source = self.sources[split]
        if source is None and not has_split(self._train_arrays, split, self.keys):
            return None
        dataset = self._read(split, self._train_arrays if source is None else read_source(source))
        self._check_labels(split, dataset)
        return dataset

    @cached_property
    def _train_arrays(self) -> Mapping[str, Any]:
        train = self.sources["train"]
        assert train is not None  # the argument is required
        return read_source(train)

    @cached_property
    def _train_images(self) -> ArrayImages:
        dataset = self._read("train", self._train_arrays)
        if self._names is not None:
            self._check_labels("train", dataset)
        return dataset

    def _read(self, split: Split, arrays: Mapping[str, Any]) -> ArrayImages:
        source = self.sources[split] or self.sources["train"]
        where = str(source) if isinstance(source, (str, Path)) else type(self).__name__
        return read_images(arrays, split, where=where, keys=self.keys, layout=self.layout)

    def _check_labels(self, split: Split, dataset: ArrayImages) -> None:
        highest = int(dataset.labels.max())
        if highest >= self.num_classes:
            source = "the training labels know" if self._names is None else "class_names has"
            raise LongTailError(
                f"The {split} labels go up to {highest} but {source} {self.num_classes} classes: "
                "check the labels, or name all classes in class_names."
            )

    @cached_property
    def _names(self) -> list[str] | None:
        return list(self._given_names) if self._given_names is not None else class_names_in(self._train_arrays)

    @property
    def num_classes(self) -> int:
        return len(self._names) if self._names is not None else int(self._train_images.labels.max()) + 1

    def build_class_names(self) -> list[str]:
        return self._names if self._names is not None else super().build_class_names()

    def subset_name(self) -> str:
        train = self.sources["train"]
        return self.name or (Path(train).stem if isinstance(train, (str, Path)) else super().subset_name())
