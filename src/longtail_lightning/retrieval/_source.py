"""One source of a memory: a bank, which of its items are still there, what their texts are, and their index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._fingerprint import require_equal
from longtail_lightning.features._strings import Strings
from longtail_lightning.retrieval.index import VectorIndex


@dataclass(eq=False)
class Source:
    """A source of a memory.

    Args:
        name: of the source.
        bank: features and ids, which never change.
        index: of the features by their rows, without those of removed items.
        alive: `(rows,)`: which items are there.
        text_numbers: `(rows,)`: which of the memory's texts each item has.
        folder: where bank and index lie, below the memory's folder; None until they were written.
        index_file: name, size and checksum of the index there, and how many vectors it was written with.
    """

    name: str
    bank: FeatureBank
    index: VectorIndex
    alive: np.ndarray
    text_numbers: np.ndarray
    folder: str | None = None
    index_file: dict[str, Any] | None = None

    @classmethod
    def of(cls, name: str, bank: FeatureBank, text_numbers: np.ndarray, like: VectorIndex) -> Source:
        """A new source, with an index like another one."""
        index = like.new()
        index.add(bank.features, np.arange(len(bank)))
        return cls(name, bank, index, np.ones(len(bank), bool), text_numbers)

    def __len__(self) -> int:
        return int(self.alive.sum())

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        return {name: row for row, name in enumerate(self.bank.ids)}

    def row(self, name: Any) -> int | None:
        """Row of the item with an id, if it is there."""
        if isinstance(self.bank.ids, range):
            number = int(name) if isinstance(name, Integral) and not isinstance(name, bool) else -1
            row = number if 0 <= number < len(self.bank) else None
        else:
            row = self._row_of.get(name)
        return row if row is not None and self.alive[row] else None

    def remove(self, rows: Sequence[int]) -> None:
        """Remove items."""
        self.index.remove(np.asarray(rows, np.int64))
        self.alive = self.alive.copy()
        self.alive[list(rows)] = False

    def relabel(self, row: int, text_number: int) -> None:
        """Give an item another text."""
        self.text_numbers = self.text_numbers.copy()  # it may be mapped from a file
        self.text_numbers[row] = text_number

    def indexed_anew(self) -> VectorIndex:
        """Another index of what is there."""
        rows = np.flatnonzero(self.alive)
        index = self.index.new()
        features = self.bank.features
        index.add(features if len(rows) == len(features) else features[torch.from_numpy(rows)], rows)
        return index

    def compacted(self) -> Source:
        """The source without a trace of removed items."""
        if self.alive.all():
            return self
        rows = np.flatnonzero(self.alive)
        return Source.of(self.name, self.bank.subset(rows), self.text_numbers[rows], self.index)


def require_distinct_ids(bank: FeatureBank, name: str) -> None:
    """Refuse a bank in which two items are called the same."""
    if isinstance(bank.ids, range):
        return
    seen: set[Any] = set()
    for item in bank.ids:
        if item in seen:
            raise LongTailError(
                f"Two items of {name!r} are called {item!r}: a memory is edited by ids, give each item one of its own."
            )
        seen.add(item)


def texts_of(bank: FeatureBank, texts: Any, name: str) -> Sequence[str]:
    """The text of each item: those given, those of the bank, or the names of the classes."""
    if texts is None:
        texts = bank.texts
    if texts is None:
        if bank.labels is None or bank.multi_hot or bank.given_names is None:
            raise LongTailError(
                f"The items of {name!r} have no texts: give texts=[...], one for each, or a bank with labels and "
                "class_names."
            )
        names = list(bank.class_names)
        texts = [names[label] for label in bank.labels.tolist()]
    elif isinstance(texts, str) or not hasattr(texts, "__len__") or len(texts) != len(bank):
        found = 1 if isinstance(texts, str) or not hasattr(texts, "__len__") else len(texts)
        raise LongTailError(f"{name!r} has {len(bank)} items and {found} texts: give one for each.")
    given = Strings.of(texts, "texts")
    for row, text in enumerate(given):
        if not text.strip():
            raise LongTailError(
                f"The text of item {bank.ids[row]!r} of {name!r} is empty: give it one, or leave the item out."
            )
    return given


def require_same_encoder(wanted: Mapping[str, Any], found: Mapping[str, Any], named: str, fix: str) -> None:
    """Refuse features of another encoder, where both fingerprints name theirs.

    Args:
        wanted: the fingerprint that is right.
        found: the one that is compared.
        named: how the error calls what has it.
        fix: what to do.
    """
    if wanted.get("encoder") and found.get("encoder"):
        require_equal({"encoder": wanted["encoder"]}, found, named, fix)
