"""What a search in the memory finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from longtail_lightning.features import FeatureBank


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest items of each query, nearest first.

    Args:
        scores: `(queries, k)`: cosine, or minus the squared distance.
        places: `(queries, k)`, int64: number of the item's source.
        rows: `(queries, k)`, int64: number of the item in its source.
        text_numbers: `(queries, k)`, int64: which of the memory's different texts the item has.
        banks: name and bank of each source that the memory had.
        different_texts: the different texts that it had.

    Examples:
        >>> from longtail_lightning import RetrievalMemory
        >>> bank = FeatureBank.from_arrays(torch.eye(3), ids=["a", "b", "c"], texts=["cat", "dog", "wolf"])
        >>> found = RetrievalMemory.build(bank).search(torch.tensor([[0.9, 0.1, 0.0]]), k=2)
        >>> found.ids, found.texts, found.sources
        ([['a', 'b']], [['cat', 'dog']], [['train', 'train']])
    """

    scores: Tensor
    places: Tensor
    rows: Tensor
    text_numbers: Tensor
    banks: Sequence[tuple[str, FeatureBank]]
    different_texts: Sequence[str]

    @cached_property
    def ids(self) -> list[list[Any]]:
        """What each item is called in its source."""
        pairs = zip(self.places.tolist(), self.rows.tolist())
        return [[self.banks[place][1].ids[row] for place, row in zip(*line)] for line in pairs]

    @cached_property
    def sources(self) -> list[list[str]]:
        """Name of the source of each item."""
        return [[self.banks[place][0] for place in line] for line in self.places.tolist()]

    @cached_property
    def texts(self) -> list[list[str]]:
        """Text of each item."""
        known = {number: self.different_texts[number] for number in torch.unique(self.text_numbers).tolist()}
        return [[known[number] for number in line] for line in self.text_numbers.tolist()]

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        return f"Neighbors({self.scores.shape[0]} queries, k={self.scores.shape[1]})"
