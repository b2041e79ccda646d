"""The nearest items of all sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning.retrieval._items import Items
from longtail_lightning.retrieval.index import NOBODY
from longtail_lightning.retrieval.neighbors import Neighbors


def search_items(items: Items, queries: Any, k: int, exclude: Sequence[Any] | None) -> Neighbors:
    """See `RetrievalMemory.search`."""
    require_whole("search", "k", k, 1)
    queries, k, own = torch.as_tensor(queries), int(k), items.num_features
    if queries.ndim != 2:
        raise LongTailError(f"Queries are (queries, features), got a tensor of shape {tuple(queries.shape)}.")
    if (width := queries.shape[1]) != own:
        raise LongTailError(
            f"The queries are {width} wide, the features of the memory {own}: take those of its encoder."
        )
    if exclude is not None:
        exclude = exclude.tolist() if hasattr(exclude, "tolist") else exclude
        if isinstance(exclude, str) or not hasattr(exclude, "__len__"):
            raise LongTailError(f"exclude names an item, or None, for each query, got {exclude!r}: give a list.")
    if exclude is not None and len(exclude) != len(queries):
        raise LongTailError(
            f"exclude names {len(exclude)} items for {len(queries)} queries: give one or None for each."
        )
    excluded = None if exclude is None else items.rows_of(exclude)
    _require_enough(items, k, excluded)
    parts = []
    for place, source in enumerate(items.sources.values()):
        if not len(source):
            continue
        unwanted = None if excluded is None else excluded[place]
        found = source.index.search(queries, k if unwanted is not None else min(k, len(source)), unwanted)
        rows = np.where(found.ids == NOBODY, 0, found.ids)  # such a one has the lowest score, and is not taken
        parts.append((found.scores, np.full_like(rows, place), rows, source.text_numbers[rows]))
    found_by_all = [torch.from_numpy(np.concatenate(part, 1)) for part in zip(*parts)]
    best = found_by_all[0].argsort(dim=1, descending=True, stable=True)[:, :k]
    scores, places, numbers, texts = (values.gather(1, best) for values in found_by_all)
    banks = [(source.name, source.bank) for source in items.sources.values()]
    return Neighbors(scores, places, numbers, texts, banks, items.texts)


def _require_enough(items: Items, k: int, excluded: np.ndarray | None) -> None:
    taken = 0 if excluded is None or not excluded.size else int((excluded != NOBODY).sum(0).max())
    if k > (most := len(items) - taken):
        left = f", {most} without what is excluded" if taken else ""
        raise LongTailError(f"k={k}: the memory has {len(items)} items{left}; ask for at most {most}.")
