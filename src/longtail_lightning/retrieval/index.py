"""What finds the nearest vectors: one small protocol for all engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole

Metric = Literal["cosine", "l2"]
_LARGEST = 1e15
BLOCK = 1 << 16
"""Vectors that are added at a time."""
NOBODY = -1
"""In the place of an id: for a query that excludes nothing, and for a neighbor that there is not."""


@dataclass(frozen=True)
class Found:
    """The nearest vectors of each query, nearest first.

    Args:
        ids: `(queries, k)`, int64; `NOBODY` where there are fewer than k.
        scores: `(queries, k)`, float32: the cosine, or minus the squared distance; minus infinity where there are
            fewer.

    Examples:
        >>> from longtail_lightning import FaissIndex
        >>> found = FaissIndex().add(np.eye(2), [3, 8]).search([[1.0, 0.2]], k=2)
        >>> found.ids.tolist(), found.scores.round(2).tolist()
        ([[3, 8]], [[0.9800000190734863, 0.20000000298023224]])
    """

    ids: np.ndarray
    scores: np.ndarray


class VectorIndex(ABC):
    """Vectors with whole numbers as ids. A child answers five questions; what it is given is checked here.

    Args:
        metric: what is near: `"cosine"`, or `"l2"`, the Euclidean distance.
    """

    external: bool = False
    """Whether vectors lie outside of the file that `save` writes."""

    def __init__(self, metric: Metric = "cosine") -> None:
        if metric not in ("cosine", "l2"):
            raise LongTailError(f"Unknown metric={metric!r}: choose 'cosine' or 'l2'.")
        self.metric: Metric = metric

    # -- what a child answers --------------------------------------------------------------------

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Plain values that make an empty index like this one."""

    @abstractmethod
    def put(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Take vectors in, which are float32, of norm 1 for cosines, and have new ids."""

    @abstractmethod
    def drop(self, ids: np.ndarray) -> None:
        """Forget vectors, all of which are there."""

    @abstractmethod
    def nearest(self, queries: np.ndarray, k: int, exclude: np.ndarray | None) -> Found:
        """The nearest vectors; of each query's `exclude`, an id or `NOBODY`, nothing is found."""

    @abstractmethod
    def ids(self) -> np.ndarray:
        """The ids that are there, in no particular order."""

    @abstractmethod
    def save(self, path: str | Path) -> Any:
        """Write the index to a file."""

    @abstractmethod
    def load(self, path: str | Path, *, mmap: bool = True) -> Self:
        """Take over what `save` has written.

        Args:
            path: the file.
            mmap: read it as it is needed; processes of a machine share one copy then.
        """

    def begin(self, number: int, draw: Callable[[int], np.ndarray]) -> None:
        """So many vectors will be `put`, in blocks; `draw(n)` gives up to n of them, for what must be fitted before."""
        return

    def settle(self) -> None:
        """The memory was saved: what was removed is not wanted any more."""
        return

    def discard(self) -> None:
        """The memory was saved without this index."""
        return

    # -- what users call -------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.ids())

    def new(self) -> Self:
        """An empty index with the same settings."""
        return type(self)(**self.settings())

    def add(self, vectors: Any, ids: Any) -> Self:
        """Add vectors, a block at a time: those that are mapped from a file need not fit into memory.

        Args:
            vectors: `(n, features)`, tensor or array.
            ids: one whole number of at least 0 each; none of them is there already.
        """
        given, numbers = vectors if hasattr(vectors, "shape") else np.asarray(vectors), _ids(ids)
        require_table(given.shape)
        if len(numbers) != len(given):
            raise LongTailError(f"There are {len(given)} vectors and {len(numbers)} ids.")
        if len(numbers) and int(numbers.min()) < 0:
            raise LongTailError(f"An id is a number of at least 0, got {int(numbers.min())}.")
        if len(np.unique(numbers)) < len(numbers) or np.isin(numbers, self.ids()).any():
            raise LongTailError("An id is added twice: remove the old vector first.")
        parts = [slice(start, start + BLOCK) for start in range(0, len(given), BLOCK)]
        if len(parts) > 1:  # a bad vector is refused before anything is taken in
            for part in parts:
                self._prepared(given[part])
        if parts:
            self.begin(len(given), lambda number: self._prepared(_some_of(given, number)))
        for part in parts:
            self.put(self._prepared(given[part]), numbers[part])
        return self

    def remove(self, ids: Any) -> Self:
        """Remove vectors.

        Args:
            ids: theirs; all must be there.
        """
        numbers = np.unique(_ids(ids))
        if (absent := numbers[~np.isin(numbers, self.ids())]).size:
            raise LongTailError(f"There is no vector with the id {int(absent[0])}.")
        if len(numbers):
            self.drop(numbers)
        return self

    def search(self, queries: Any, k: int, exclude: Any = None) -> Found:
        """The k nearest vectors of each query.

        Args:
            queries: `(queries, features)`.
            k: how many.
            exclude: an id for each query that it must not find, such as its own; -1 for none.
        """
        require_whole("search", "k", k, 1)
        k, prepared = int(k), self._prepared(queries)
        excluded = None if exclude is None else _ids(exclude)
        if excluded is not None and len(excluded) != len(prepared):
            raise LongTailError(f"exclude has {len(excluded)} ids for {len(prepared)} queries.")
        if not len(prepared):
            return Found(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
        return self.nearest(prepared, k, excluded)

    def _prepared(self, vectors: Any) -> np.ndarray:
        if hasattr(vectors, "detach"):
            vectors = vectors.detach().float().cpu().numpy()
        made = np.ascontiguousarray(vectors, np.float32)
        require_table(made.shape)
        if not np.isfinite(made).all():
            raise LongTailError("The vectors hold NaN or infinity, of which nothing is near.")
        # Blocks are large: without temporary arrays of their size.
        largest = np.maximum(made.max(axis=1, initial=0), -made.min(axis=1, initial=0))[:, None]
        if self.metric == "l2":
            if (largest > _LARGEST).any():
                raise LongTailError("The vectors hold numbers whose squares are infinite: scale them.")
            return made
        # Squares of very large and very small numbers are no numbers any more.
        directions: np.ndarray = made / np.where(largest > 0, largest, 1)
        norms = np.sqrt(np.einsum("ij,ij->i", directions, directions))[:, None]
        directions /= np.maximum(norms, 1e-12)
        return directions


def require_table(shape: Sequence[int]) -> None:
    """Refuse what is not one vector a row."""
    if len(shape) != 2:
        raise LongTailError(f"Vectors are (n, features), got an array of shape {tuple(shape)}.")


def _some_of(vectors: Any, number: int) -> Any:
    if number >= len(vectors):
        return vectors
    # Data are often sorted by class, or repeat: neither the first ones nor each tenth are like all.
    rows = np.random.default_rng(0).choice(len(vectors), number, replace=False, shuffle=False)
    return vectors[np.sort(rows)]


def without_excluded(found: Found, k: int, exclude: np.ndarray) -> Found:
    """Drop what a query must not find from more than k neighbors.

    Args:
        found: `k + 1` neighbors of each query.
        k: how many stay.
        exclude: an id per query.
    """
    unwanted = (found.ids == exclude[:, None]) & (exclude[:, None] != NOBODY)
    order = np.argsort(unwanted, axis=1, kind="stable")[:, :k]  # the unwanted one goes to the end, and is cut off
    return Found(np.take_along_axis(found.ids, order, 1), np.take_along_axis(found.scores, order, 1))


def _ids(ids: Any) -> np.ndarray:
    found = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
    if found.size == 0:
        return np.empty(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise LongTailError(f"ids are one whole number each, got an array of {found.dtype}, {found.shape}.")
    return found.astype(np.int64)
