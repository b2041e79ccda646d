"""The nearest vectors with FAISS: exact, by a graph, or by cells."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import replace_file_with_checksum
from longtail_lightning._number_range import require_whole
from longtail_lightning.retrieval.index import BLOCK, NOBODY, Found, Metric, VectorIndex, without_excluded

Kind = Literal["exact", "hnsw", "ivf"]
_KINDS = ("exact", "hnsw", "ivf")
_END = b"ltl ids\n"
_CLASSES = {"exact": "IndexFlat", "hnsw": "IndexHNSW", "ivf": "IndexIVF"}
_LARGE = 100_000
_SAMPLE = 64  # vectors for each cell, which the cells are found with
_MOST_DEAD = 0.5
"""Share of removed vectors in a graph from which it is built anew: searches wade through them."""
_PROCESS = os.getpid()
"""The one that has imported this file: another one is a fork of it."""


class FaissIndex(VectorIndex):
    """An index in the memory of this machine, or mapped from a file.

    `"exact"` compares with every vector. `"hnsw"` walks a graph: several times faster from some ten thousand vectors
    on, and the more there are, the more neighbors it misses. `"ivf"` looks into the nearest cells; its vectors take
    half the memory, or far less with a `codec` such as `"PQ32"`. An index is built in memory: from a mapped bank only
    a block of the vectors lies beside it at a time. Once it is saved and loaded, it is mapped.

    What is removed stays in the structure, unseen; a graph is built anew before half of it is dead. Searches run on the
    CPU, with a build of FAISS for GPUs too.

    Args:
        kind: `"exact"`, `"hnsw"` or `"ivf"`.
        metric: what is near: `"cosine"` or `"l2"`.
        links: of each vector in the graph; the paper of RAC takes 32.
        ef_construction: how widely the graph is searched while it is built.
        ef_search: how widely it is searched: more finds more, and takes longer. By default 48, and 128 from 100,000
            vectors on.
        cells: of `"ivf"`, or as many as there are vectors; by default four times the square root of their number.
        probes: how many cells are looked into.
        codec: how `"ivf"` keeps vectors: `"SQfp16"`, `"Flat"`, `"PQ32"`, ... as FAISS writes it.
        seed: of the clustering into cells.

    Examples:
        >>> index = FaissIndex().add(np.eye(3), [5, 7, 9])
        >>> index.search([[0.1, 0.9, 0.2]], k=2).ids.tolist()
        [[7, 9]]
        >>> index.search([[0.1, 0.9, 0.2]], k=2, exclude=[7]).ids.tolist()
        [[9, 5]]
        >>> len(index.remove([7]))
        2

    **Paper.** Malkov and Yashunin, HNSW, 2018; Douze et al., The Faiss library, 2024.
    """

    def __init__(
        self,
        kind: Kind = "exact",
        *,
        metric: Metric = "cosine",
        links: int = 32,
        ef_construction: int = 40,
        ef_search: int | None = None,
        cells: int | None = None,
        probes: int = 8,
        codec: str = "SQfp16",
        seed: int = 0,
    ) -> None:
        super().__init__(metric)
        if kind not in _KINDS:
            raise LongTailError(f"Unknown kind={kind!r}: choose one of {', '.join(map(repr, _KINDS))}.")
        named = {"links": links, "ef_construction": ef_construction, "probes": probes}
        optional = {"ef_search": ef_search, "cells": cells}
        for name, value in {**named, **{key: each for key, each in optional.items() if each is not None}}.items():
            require_whole(self, name, value, 1)
        require_whole(self, "seed", seed, 0)
        self.kind: Kind = kind
        self.links = links
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self.cells = cells
        self.probes = probes
        self.codec = codec
        self.seed = seed
        self._index: Any = None
        self._ids = np.empty(0, np.int64)
        """Id of each vector of the structure, in its order."""
        self._alive = np.empty(0, bool)
        self._shared = False
        """Whether `_index` is mapped from a file or that of a copy too, so that it must not change."""
        self._selector: Any = None

    def settings(self) -> dict[str, Any]:
        named = ("kind", "metric", "links", "ef_construction", "ef_search", "cells", "probes", "codec", "seed")
        return {name: getattr(self, name) for name in named}

    def ids(self) -> np.ndarray:
        return self._ids[self._alive]

    def begin(self, number: int, draw: Callable[[int], np.ndarray]) -> None:
        if self._index is None:
            self._index = self._empty(number, draw)

    def put(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        self._own()
        if vectors.shape[1] != self._index.d:
            raise LongTailError(f"The index holds vectors {self._index.d} wide, got {vectors.shape[1]}.")
        self._index.add(vectors)
        self._ids = np.concatenate([self._ids, ids])
        self._alive = np.concatenate([self._alive, np.ones(len(ids), bool)])

    def drop(self, ids: np.ndarray) -> None:
        self._alive, self._selector = self._alive & ~np.isin(self._ids, ids), None
        if self.kind != "ivf" and self._alive.sum() < (1 - _MOST_DEAD) * len(self._alive):
            self._rebuild()

    def nearest(self, queries: np.ndarray, k: int, exclude: np.ndarray | None) -> Found:
        alive = int(self._alive.sum())
        wanted = k if exclude is None else k + 1
        if alive == 0:
            found = Found(np.full((len(queries), wanted), NOBODY), np.full((len(queries), wanted), -np.inf, np.float32))
        else:
            if queries.shape[1] != self._index.d:
                raise LongTailError(f"The index holds vectors {self._index.d} wide, got queries {queries.shape[1]}.")
            found = self._nearest(queries, min(wanted, alive))
            missing = wanted - found.ids.shape[1]
            found = Found(
                np.pad(found.ids, ((0, 0), (0, missing)), constant_values=NOBODY),
                np.pad(found.scores, ((0, 0), (0, missing)), constant_values=-np.inf),
            )
        return found if exclude is None else without_excluded(found, k, exclude)

    def save(self, path: str | Path) -> dict[str, Any]:
        """Write the index to a file that FAISS reads too; returns its size and checksum.

        Args:
            path: the file.
        """
        faiss = load_faiss()

        def write(file: Any) -> None:
            if self._index is not None:
                writer = faiss.PyCallbackIOWriter(lambda block: file.write(bytes(block)))
                faiss.write_index(self._index, writer)
            # FAISS does not look at what comes after its own part.
            for array in (self._ids, self._alive, np.array([len(self._ids)], np.int64)):
                file.write(array.tobytes())
            file.write(_END)

        return replace_file_with_checksum(path, write)

    def load(self, path: str | Path, *, mmap: bool = True) -> Self:
        faiss, path = load_faiss(), Path(path)
        try:
            self._ids, self._alive = _read_ids(path)
            if len(self._ids):
                # Old releases of FAISS map nothing.
                self._index = faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", 0) if mmap else 0)
                metric = faiss.METRIC_INNER_PRODUCT if self.metric == "cosine" else faiss.METRIC_L2
                if not type(self._index).__name__.startswith(_CLASSES[self.kind]) or self._index.metric_type != metric:
                    raise ValueError(f"no {self.kind} index for {self.metric}")
                if self._index.ntotal != len(self._ids):
                    raise ValueError(f"{self._index.ntotal} vectors and {len(self._ids)} ids")
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise LongTailError(
                f"The index {path} is damaged or of another kind ({reason}): build it again."
            ) from error
        self._shared, self._selector = mmap, None
        return self

    # -- FAISS -----------------------------------------------------------------------------------

    def _empty(self, number: int, draw: Callable[[int], np.ndarray]) -> Any:
        faiss = load_faiss()
        width = draw(1).shape[1]
        metric = faiss.METRIC_INNER_PRODUCT if self.metric == "cosine" else faiss.METRIC_L2
        if self.kind == "exact":
            return faiss.IndexFlat(width, metric)
        if self.kind == "hnsw":
            index = faiss.IndexHNSWFlat(width, self.links, metric)
            index.hnsw.efConstruction = self.ef_construction
            return index
        cells = min(number, self.cells or max(1, min(int(4 * math.sqrt(number)), number // 39)))
        try:
            index = faiss.index_factory(width, f"IVF{cells},{self.codec}", metric)
            index.cp.seed, index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = self.seed, 1, _SAMPLE
            index.train(draw(max(BLOCK, _SAMPLE * cells)))  # codecs want some ten thousand
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise LongTailError(
                f"codec={self.codec!r} does not work on {number} vectors {width} wide ({reason}): take 'SQfp16'."
            ) from error
        return index

    def _nearest(self, queries: np.ndarray, k: int) -> Found:
        scores, places = self._index.search(queries, k, params=self._parameters(k))
        # A graph, or the cells that were looked into, may lead to fewer.
        if (short := (places < 0).any(1)).any():
            scores[short], places[short] = self._search_all(queries[short], k)
        ids = np.where(places < 0, NOBODY, self._ids[places])
        scores = scores if self.metric == "cosine" else -scores
        return Found(ids, np.where(places < 0, -np.inf, scores).astype(np.float32))

    def _parameters(self, k: int) -> Any:
        faiss = load_faiss()
        if self._selector is None and not self._alive.all():
            self._selector = faiss.IDSelectorBitmap(np.packbits(self._alive, bitorder="little"))
        chosen = {} if self._selector is None else {"sel": self._selector}
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(
                efSearch=max(self.ef_search or (48 if len(self._ids) < _LARGE else 128), k), **chosen
            )
        if self.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=self.probes, **chosen)
        return faiss.SearchParameters(**chosen) if chosen else None

    def _search_all(self, queries: np.ndarray, k: int) -> Any:
        faiss = load_faiss()
        chosen = {} if self._selector is None else {"sel": self._selector}
        if self.kind == "ivf":
            return self._index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=self._index.nlist, **chosen))
        flat = faiss.downcast_index(self._index.storage) if self.kind == "hnsw" else self._index
        return flat.search(queries, k, params=faiss.SearchParameters(**chosen) if chosen else None)

    def _own(self) -> None:
        """Before a change: have a structure in memory which nothing else uses."""
        faiss = load_faiss()
        if self._shared and self._index is not None:
            self._index = faiss.deserialize_index(faiss.serialize_index(self._index))
        self._shared, self._selector = False, None

    def _rebuild(self) -> None:
        """Without the vectors that were removed."""
        vectors, ids = self._index.reconstruct_n(0, len(self._ids))[self._alive], self.ids()
        self._index, self._ids, self._alive = None, np.empty(0, np.int64), np.empty(0, bool)
        self._shared, self._selector = False, None
        if len(ids):
            self.begin(len(ids), lambda number: vectors[:number])
            self.put(vectors, ids)

    def __deepcopy__(self, _: Any) -> Self:
        """A copy that shares the vectors, until one of the two gets more."""
        copied = self.new()
        self._shared = True
        copied.__dict__.update(self.__dict__, _selector=None)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        faiss = load_faiss()
        packed = None if self._index is None else faiss.serialize_index(self._index)
        return {**self.__dict__, "_index": packed, "_selector": None, "_shared": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._index is not None:
            self._index = load_faiss().deserialize_index(self._index)


@cache
def load_faiss() -> Any:
    """FAISS, imported when it is needed. A forked process uses one thread of it: with more it would wait forever."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old releases of FAISS ask new ones of numpy
        import faiss

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: faiss.omp_set_num_threads(1))
        if os.getpid() != _PROCESS:  # torch may have used the same threads before the fork
            faiss.omp_set_num_threads(1)
    return faiss


def _read_ids(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What `save` has put behind the part of FAISS."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - 8 - len(_END)))
        end = file.read()
        if end[8:] != _END:
            raise ValueError("its end is missing")
        number = int(np.frombuffer(end[:8], np.int64)[0])
        if not 0 <= 9 * number <= size:
            raise ValueError(f"it tells of {number} ids")
        file.seek(size - 8 - len(_END) - 9 * number)
        ids = np.frombuffer(file.read(8 * number), np.int64)
        return ids, np.frombuffer(file.read(number), bool)
