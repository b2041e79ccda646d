"""Which items a split has: what `build` gives, a long-tailed part of it, images held out to validate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.long_tail import Draw, Profile, SubsetId, long_tail_indices, profile_name
from longtail_lightning.datasets.splits import Split, hold_out


class Splits:
    """The splits of a data module, each built once.

    Args:
        build: the data set of a split, or None when there is none.
        owner: the data module's class, for messages.
        val_split: share of each training class to hold out, when `build("val")` gives none.
        seed: which images are held out.
        imbalance_factor: make the training set long-tailed; None takes all of it, unless `profile` has counts.
        profile: shape of that tail, or images per class.
        max_count: images of its class 0.
        subset_draw: `"random"` images of each class or its `"first"` ones.
        subset_seed: which random images.
        subset_name: what the long-tailed subset is called.
    """

    def __init__(
        self,
        build: Callable[[Split], Dataset[Any] | None],
        *,
        owner: str,
        val_split: float,
        seed: int,
        imbalance_factor: float | None,
        profile: Profile,
        max_count: int | None,
        subset_draw: Draw,
        subset_seed: int,
        subset_name: Callable[[], str],
    ) -> None:
        self._build = build
        self.owner = owner
        self.val_split = val_split
        self.seed = seed
        self.imbalance_factor = imbalance_factor
        self.profile = profile
        self.max_count = max_count
        self.subset_draw = subset_draw
        self.subset_seed = subset_seed
        self._subset_name = subset_name
        self._subset_id: SubsetId | None = None
        self._num_labels: int | None = None  # number of classes before the long-tailed subset is taken
        self._whole: dict[str, Dataset[Any] | None] = {}
        self._parts: dict[str, Dataset[Any] | None] = {}

    def dataset(self, split: Split) -> Dataset[Any] | None:
        """The data set of a split, after holding out the validation images."""
        if split not in self._parts:
            self._parts[split] = self._held_apart(split)
        return self._parts[split]

    def labels(self, split: Split) -> Tensor:
        """Class index of each item of a split."""
        return labels_of(self.require(split))

    def require(self, split: Split) -> Dataset[Any]:
        """The data set of a split; refuse when there is none."""
        if (dataset := self.dataset(split)) is None:
            raise LongTailError(f"{self.owner} has no {split} split.")
        return dataset

    def class_counts(self, num_classes: int | None) -> ClassCounts:
        """Images of each class in the training split.

        Args:
            num_classes: how many classes there are, when the data say so.
        """
        labels = self.labels("train")
        # A class that a long tail leaves without images is still a class.
        return ClassCounts.from_labels(labels, num_classes or self._num_labels)

    @property
    def subset_id(self) -> SubsetId | None:
        """Which images of the training set a long-tailed subset keeps; None when all of them are used."""
        self.whole("train")
        return self._subset_id

    @property
    def held_out(self) -> str | None:
        """Which training images are held out for validation, in words; None when none are."""
        if not self.val_split or self.whole("val") is not None:
            return None
        return f"val_split={self.val_split}, seed={self.seed}"

    def whole(self, split: Split) -> Dataset[Any] | None:
        """A split before images are held out of it; the training split is the long-tailed subset already."""
        if split not in self._whole:
            # Tensors made while Lightning evaluates could not be trained on later.
            with torch.inference_mode(False):
                dataset = self._build(split)
            if isinstance(dataset, IterableDataset) or (dataset is not None and not hasattr(dataset, "__len__")):
                raise LongTailError(
                    f"{self.owner}: the {split} split is a {type(dataset).__name__}, which can only be read "
                    "from its beginning: build a data set with __getitem__ and __len__, so that samplers can choose."
                )
            wanted = self.imbalance_factor is not None or not isinstance(self.profile, str)
            if split == "train" and dataset is not None and wanted:
                dataset = self._long_tailed(dataset)
            self._whole[split] = dataset
        return self._whole[split]

    def _long_tailed(self, dataset: Dataset[Any]) -> Dataset[Any]:
        factor = 1.0 if self.imbalance_factor is None else self.imbalance_factor  # counts in `profile` need none
        labels = labels_of(dataset)
        self._num_labels = int(labels.max()) + 1
        indices = long_tail_indices(
            labels, factor, self.profile, max_count=self.max_count, draw=self.subset_draw, seed=self.subset_seed
        )
        name = f"{self._subset_name()}-{profile_name(factor, self.profile, self.subset_draw)}"
        self._subset_id = SubsetId.of(name, indices, self.subset_seed if self.subset_draw == "random" else 0)
        return Subset(dataset, indices.tolist())

    def _held_apart(self, split: Split) -> Dataset[Any] | None:
        dataset = self.whole(split)
        if dataset is not None and len(dataset) == 0:  # type: ignore[arg-type]
            raise LongTailError(f"{self.owner}: the {split} split is empty; check the data path.")
        if self.val_split and split != "test":
            own_val, full = self.whole("val"), self.whole("train")
            if own_val is None and full is not None:
                train, val = hold_out(labels_of(full), self.val_split, seed=self.seed)
                return Subset(full, (train if split == "train" else val).tolist())
        if split == "train" and dataset is None:
            raise LongTailError(f"{self.owner}.build('train') gave no data set.")
        return dataset
