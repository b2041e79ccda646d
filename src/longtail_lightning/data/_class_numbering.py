"""Turn the labels in files, numbers or names, into class indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.counts import MAX_CLASSES
from longtail_lightning.datasets.read_text import first_few, shown

Key = int | str
"""A label as it stands in a file: a number or a name."""


@dataclass(frozen=True, eq=False)
class LabeledFiles:
    """What the files say about a split, before its classes are numbered.

    Args:
        source: what messages call it, a file or a folder.
        labels: the label of each item: whole numbers, or names.
        make: from class indices to the data set.
    """

    source: str
    labels: Sequence[str] | np.ndarray
    make: Callable[[Tensor], Dataset[Any]]

    @cached_property
    def keys(self) -> list[Key]:
        """The distinct labels, sorted."""
        return self._distinct[0]

    @property
    def codes(self) -> Tensor:
        """The place of each item's label in `keys`."""
        return self._distinct[1]

    @cached_property
    def _distinct(self) -> tuple[list[Key], Tensor]:
        if isinstance(self.labels, np.ndarray):
            numbers, codes = np.unique(self.labels, return_inverse=True)
            return numbers.tolist(), torch.from_numpy(codes.reshape(-1).astype(np.int64))
        names: list[Key] = sorted(set(self.labels))
        place = {name: i for i, name in enumerate(names)}
        return names, torch.tensor([place[label] for label in self.labels], dtype=torch.int64)


@dataclass(frozen=True)
class NamedClasses:
    """Classes that the data name, whether or not they have training images."""

    keys: Sequence[Key]
    names: Sequence[str]


class ClassNumbering:
    """Numbers the classes of a data set, by its training labels.

    Names that are given are matched with labels that are names: when all labels are among them, they set
    the order. Other names follow the order of the labels.

    Args:
        train: the training listing.
        stated: the classes, when the data name them.
        names: the names that the user gives.
        relabel: number the distinct labels anew although they are numbers.
    """

    def __init__(
        self,
        train: LabeledFiles,
        *,
        stated: NamedClasses | None = None,
        names: Sequence[str] | None = None,
        relabel: bool = False,
    ) -> None:
        self.source = train.source
        self.counted = stated is not None or names is not None
        if stated is not None:
            self.keys, self.names = list(stated.keys), list(stated.names)
        elif relabel or isinstance(train.keys[0], str):
            self.keys, self.names = train.keys, [str(key) for key in train.keys]
        else:
            self.keys = self._numbers(train.keys, names)
            self.names = [str(key) for key in self.keys]
        if names is not None:
            self._rename(list(names))
        self.index = {key: i for i, key in enumerate(self.keys)}
        self._seen = set(train.keys)
        if unknown := [key for key in train.keys if key not in self.index]:
            raise LongTailError(
                f"{train.source} has labels that are not classes of these data ({first_few(unknown)}): "
                "do labels and class names belong together?"
            )
        if absent := [name for key, name in zip(self.keys, self.names) if key not in self._seen]:
            rank_zero_warn(
                f"{len(absent)} of {len(self.keys)} classes have no image in {train.source} ({first_few(absent)}): "
                "they stay classes, with a count of 0." + ("" if stated or names else " relabel=true leaves them out.")
            )

    def encode(self, listing: LabeledFiles) -> Tensor:
        """Class index of each item of a split."""
        known = self.index if self.counted else self._seen
        if unknown := [key for key in listing.keys if key not in known]:
            one = len(unknown) == 1
            more = "" if isinstance(unknown[0], str) else ", or pass class_names that name all classes"
            raise LongTailError(
                f"{listing.source} has {len(unknown)} {'class' if one else 'classes'} that {self.source} lacks "
                f"({first_few(unknown)}): {'it' if one else 'they'} cannot be learned, so add training images "
                f"or leave {'it' if one else 'them'} out{more}."
            )
        return torch.tensor([self.index[key] for key in listing.keys], dtype=torch.int64)[listing.codes]

    def _numbers(self, keys: list[Any], names: Sequence[str] | None) -> list[Key]:
        low, high = int(keys[0]), int(keys[-1])
        if low < 0 or (low > 0 and (names is None or high >= len(names))):
            raise LongTailError(
                f"The labels of {self.source} run from {low} to {high}, class indices start at 0: "
                "relabel=true numbers the classes anew, in the same order."
            )
        if names is not None and high >= len(names):
            raise LongTailError(
                f"{len(names)} class names, but the labels of {self.source} run up to {high}: "
                f"give {high + 1} names, or drop class_names."
            )
        if high >= MAX_CLASSES:
            raise LongTailError(
                f"The labels of {self.source} run from {low} to {high}, which would make {high + 1:,} classes: "
                "relabel=true numbers the classes anew, in the same order."
            )
        return list(range(max(high + 1, len(names or ()))))

    def _rename(self, names: list[str]) -> None:
        place = {key: i for i, key in enumerate(self.keys)}
        moved = any(place.get(name, i) != i for i, name in enumerate(names))
        if moved or place.keys() <= set(names):
            self._reorder(names)
        elif len(names) != len(self.keys):
            raise LongTailError(
                f"{len(names)} class names for {len(self.keys)} classes of {self.source} ({first_few(self.keys)}): "
                "give one name per class, in that order."
            )
        else:
            self.names = names

    def _reorder(self, names: list[str]) -> None:
        """Take the order of names that are labels; all labels must be among them."""
        given = set(names)
        if lacking := [key for key in self.keys if key not in given]:
            hint = did_you_mean(str(lacking[0]), names, listing="the file of the names")
            raise LongTailError(
                f"class_names hold labels of {self.source} but lack {first_few(lacking)}. "
                + (
                    hint
                    if hint.startswith("Did")
                    else "Add them, or give one name per class in the order of the labels."
                )
            )
        if len(given) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise LongTailError(f"class_names hold {shown(twice)!r} twice: each class has a name of its own.")
        self.keys, self.names = list(names), list(names)
