"""The items of a memory: its sources, and the texts that they share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.features import FeatureBank
from longtail_lightning.retrieval._source import Source
from longtail_lightning.retrieval.index import NOBODY


class Items:
    """Sources by name, in their order, and the different texts.

    Args:
        sources: name -> source.
        texts: each once; the sources name them by their numbers.
    """

    def __init__(self, sources: dict[str, Source], texts: Sequence[str]) -> None:
        self.sources = sources
        self.texts = texts
        self._new: list[str] = []
        self._number_of: dict[str, int] | None = None
        self.edited = False
        """Whether they are others than in the files of the memory."""

    def __len__(self) -> int:
        return sum(map(len, self.sources.values()))

    @property
    def num_features(self) -> int:
        """Width of the features; 0 without a source."""
        return next(iter(self.sources.values())).bank.num_features if self.sources else 0

    @property
    def never_extended(self) -> bool:
        """Whether the texts are those of the beginning, which never change."""
        return self._number_of is None

    def require_new(self, name: str, bank: FeatureBank) -> None:
        """Refuse a source that cannot join those that are there."""
        if not isinstance(name, str) or not name.strip():
            raise LongTailError(f"The name of a source is a text, got {name!r}.")
        if name in self.sources:
            raise LongTailError(f"There is a source {name!r} already: give another name, or remove that one first.")
        if len(bank) == 0:
            raise LongTailError(f"The bank of {name!r} is empty: there is nothing to add.")
        if self.sources and bank.num_features != self.num_features:
            raise LongTailError(
                f"The features of {name!r} are {bank.num_features} wide, those of the memory {self.num_features}: "
                "extract them with the memory's encoder."
            )

    def source(self, name: str) -> Source:
        """The source of a name."""
        if name not in self.sources:
            raise LongTailError(f"There is no source {name!r}. {did_you_mean(str(name), self.sources)}")
        return self.sources[name]

    def only(self, item: Any) -> tuple[Source, int]:
        """Source and row of the one item that is meant."""
        wanted, name = _named(item)
        sources = list(self.sources.values()) if wanted is None else [self.source(wanted)]
        found = [(source, row) for source in sources if (row := source.row(name)) is not None]
        if not found:
            where = "memory" if wanted is None else f"source {wanted!r}"
            raise LongTailError(f"There is no item {name!r} in the {where}.")
        if len(found) > 1:
            names = " and ".join(repr(source.name) for source, _ in found)
            raise LongTailError(f"There is an item {name!r} in {names}: say which one, (source, id).")
        return found[0]

    def rows_of(self, items: Sequence[Any]) -> np.ndarray:
        """`(sources, items)`: row in each source of an item, which a bare id names in all; `NOBODY` where it is not."""
        rows = np.full((len(self.sources), len(items)), NOBODY, np.int64)
        for place, item in enumerate(items):
            if item is None:
                continue
            wanted, name = _named(item)
            if wanted is not None:
                self.source(wanted)  # refuses one that is not there
            for number, source in enumerate(self.sources.values()):
                if wanted in (None, source.name) and (row := source.row(name)) is not None:
                    rows[number, place] = row
        return rows

    def take_in(self, source: Source) -> None:
        """Add a source, which `require_new` has let pass."""
        self.sources[source.name], self.edited = source, True

    def take_out(self, name: str) -> Source:
        """Remove a source; returns it."""
        source = self.source(name)
        del self.sources[name]
        self.edited = True
        return source

    def remove(self, items: Sequence[Any]) -> None:
        """Remove items: all, or none when one of them is not there."""
        found: dict[str, list[int]] = {}
        for item in items:
            source, row = self.only(item)
            found.setdefault(source.name, []).append(row)
        for name, rows in found.items():
            self.sources[name].remove(sorted(set(rows)))
            self.edited = True

    def relabel(self, item: Any, text: str) -> None:
        """Give an item another text."""
        if not isinstance(text, str) or not text.strip():
            raise LongTailError(f"The text of an item is not empty, got {text!r}.")
        source, row = self.only(item)
        source.relabel(row, self.number(text))
        self.edited = True

    def number(self, text: str) -> int:
        """Number of a text; a new one comes to their end."""
        if self._number_of is None:
            self.texts = self._new = list(self.texts)
            self._number_of = {known: number for number, known in enumerate(self.texts)}
        if text not in self._number_of:
            self._number_of[text] = len(self.texts)
            self._new.append(text)
        return self._number_of[text]

    def compacted(self) -> Items:
        """The same items, without a trace of those that were removed."""
        sources = {name: source.compacted() for name, source in self.sources.items() if len(source)}
        used = np.unique(np.concatenate([np.empty(0, np.int64), *(s.text_numbers for s in sources.values())]))
        for source in sources.values():
            source.text_numbers = np.searchsorted(used, source.text_numbers)
        items = Items(sources, [self.texts[number] for number in used.tolist()])
        items.edited = True
        return items


def _named(item: Any) -> tuple[str | None, Any]:
    """Source and id; no source for a bare id."""
    if hasattr(item, "item"):  # a number of numpy or torch
        item = item.item()
    wanted, name = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
    if not isinstance(name, Hashable) or not (wanted is None or isinstance(wanted, str)):
        raise LongTailError(f"An item is named by its id, or (source, id), got {item!r}.")
    return wanted, name


def listed(ids: Iterable[Any]) -> list[Any]:
    """Items that are named one by one."""
    if isinstance(ids, (str, tuple)) or not isinstance(ids, Iterable):
        raise LongTailError(f"ids are a list, of one for each item to remove; got {ids!r}: write [{ids!r}].")
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)
