"""The nearest vectors with Qdrant: a vector database, for memories that outgrow one machine."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import replace_file_with_checksum
from longtail_lightning._number_range import require_whole
from longtail_lightning.retrieval.index import NOBODY, Found, Metric, VectorIndex, without_excluded

_FORMAT = 1


class QdrantIndex(VectorIndex):
    """An index in a Qdrant server or cluster, in a folder, or in the memory of this process; needs `qdrant-client`.

    Each source of a memory is a collection of its own; the memory's files hold its name alone. Vectors reach the
    database at once; what is removed is not found from then on, and is deleted when the memory is saved. The
    key of a server is read from the variable QDRANT_API_KEY, and written nowhere.

    Other databases fit the same way: a child of `VectorIndex` answers the same five questions with theirs. In Milvus
    `put`, `drop` and `nearest` are `insert`, `delete` and `search` of a collection with an int64 key, in LanceDB
    `add`, `delete` and `search` of a table; both return ids and distances, and both are asked for one neighbor more
    than wanted where something is excluded, for filters are slow.

    Args:
        url: address of a server; it wins over `path`.
        path: folder of a local database, which one process uses at a time. Without both, it lives in memory.
        collection: what the names of collections begin with.
        metric: what is near: `"cosine"` or `"l2"`.
        batch_size: vectors that are sent at a time.
        timeout: seconds that an answer may take.

    Examples:
        >>> index = QdrantIndex().add(np.eye(3), [5, 7, 9])
        >>> index.search([[0.1, 0.9, 0.2]], k=2, exclude=[7]).ids.tolist()
        [[9, 5]]
    """

    external = True

    def __init__(
        self,
        url: str | None = None,
        *,
        path: str | Path | None = None,
        collection: str = "longtail",
        metric: Metric = "cosine",
        batch_size: int = 1000,
        timeout: int = 30,
    ) -> None:
        super().__init__(metric)
        require_whole(self, "batch_size", batch_size, 1)
        require_whole(self, "timeout", timeout, 1)
        self.url = url
        self.path = None if path is None else str(path)
        self.collection = collection
        self.batch_size = batch_size
        self.timeout = timeout
        self._name = f"{collection}-{os.urandom(6).hex()}"
        self._width = 0
        self._there = np.empty(0, np.int64)
        self._pending = np.empty(0, np.int64)
        """Removed, but still in the database: who opens the memory as it was saved last finds them."""

    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("url", "path", "collection", "metric", "batch_size", "timeout")}

    def ids(self) -> np.ndarray:
        return self._there

    def put(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        from qdrant_client import models

        if self._width not in (0, vectors.shape[1]):
            raise LongTailError(f"The index holds vectors {self._width} wide, got {vectors.shape[1]}.")
        with self._asking() as client:
            if self._width == 0:
                distance = models.Distance.COSINE if self.metric == "cosine" else models.Distance.EUCLID
                size = models.VectorParams(size=vectors.shape[1], distance=distance)
                client.create_collection(self._name, vectors_config=size)
                self._width = vectors.shape[1]
            for start in range(0, len(ids), self.batch_size):
                part = slice(start, start + self.batch_size)
                batch = models.Batch(ids=ids[part].tolist(), vectors=vectors[part].tolist())
                client.upsert(self._name, points=batch, wait=True)
        self._there = np.concatenate([self._there, ids])
        self._pending = np.setdiff1d(self._pending, ids)

    def drop(self, ids: np.ndarray) -> None:
        self._there = self._there[~np.isin(self._there, ids)]
        self._pending = np.union1d(self._pending, ids)

    def nearest(self, queries: np.ndarray, k: int, exclude: np.ndarray | None) -> Found:
        wanted = k if exclude is None else k + 1
        ids = np.full((len(queries), wanted), NOBODY)
        scores = np.full((len(queries), wanted), -np.inf, np.float32)
        if len(self._there):
            if queries.shape[1] != self._width:
                raise LongTailError(f"The index holds vectors {self._width} wide, got queries {queries.shape[1]}.")
            for row, points in enumerate(self._ask(queries, wanted)):
                ids[row, : len(points)] = [point.id for point in points]
                near = np.asarray([point.score for point in points], np.float32)
                scores[row, : len(points)] = near if self.metric == "cosine" else -(near**2)
        found = Found(ids, scores)
        return found if exclude is None else without_excluded(found, k, exclude)

    def _ask(self, queries: np.ndarray, k: int) -> Iterator[list[Any]]:
        from qdrant_client import models

        # Filters are slow: what was removed is asked for as well, and dropped, until it is too much.
        gone, unseen = set(self._pending.tolist()), None
        if len(gone) > self.batch_size:
            without = models.HasIdCondition(has_id=cast(list[Any], self._pending.tolist()))
            gone, unseen = set(), models.Filter(must_not=[without])
        asked = [models.QueryRequest(query=query.tolist(), limit=k + len(gone), filter=unseen) for query in queries]
        with self._asking() as client:
            answers = client.query_batch_points(self._name, requests=asked)
        for answer in answers:
            yield [point for point in answer.points if point.id not in gone][:k]

    def settle(self) -> None:
        if len(self._pending):
            from qdrant_client import models

            with self._asking() as client:
                gone = models.PointIdsList(points=cast(list[Any], self._pending.tolist()))
                client.delete(self._name, points_selector=gone, wait=True)
        self._pending = np.empty(0, np.int64)

    def discard(self) -> None:
        with self._asking() as client:
            client.delete_collection(self._name)
        self._width, self._there = 0, np.empty(0, np.int64)

    def save(self, path: str | Path) -> dict[str, Any]:
        """Write the name of the collection to a file; returns its size and checksum.

        Args:
            path: the file.
        """
        if self.url is None and self.path is None:
            warnings.warn(
                "This memory's Qdrant lives in this process alone, and so does the saved memory: give url or path.",
                stacklevel=2,
            )
        told = {"format": _FORMAT, "collection": self._name, "width": self._width, "removed": self._pending.tolist()}
        return replace_file_with_checksum(path, lambda file: file.write(json.dumps(told).encode()))

    def load(self, path: str | Path, *, mmap: bool = True) -> Self:
        try:
            told = json.loads(Path(path).read_text(encoding="utf-8"))
            if told["format"] != _FORMAT:
                raise ValueError(f"format {told['format']}")
            self._name, self._width = str(told["collection"]), int(told["width"])
            removed = np.asarray(told["removed"], np.int64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LongTailError(f"The index {path} is damaged or of another kind ({error}): build it again.") from error
        found = self._numbers()
        self._there, self._pending = np.setdiff1d(found, removed), np.intersect1d(found, removed)
        return self

    def _numbers(self) -> np.ndarray:
        if self._width == 0:
            return np.empty(0, np.int64)
        found: list[int] = []
        with self._asking() as client:
            if not client.collection_exists(self._name):
                raise LongTailError(
                    f"{self._where} has no collection {self._name!r}: it was deleted, or the memory was made with "
                    "another database."
                )
            size = client.get_collection(self._name).config.params.vectors.size
            if size != self._width:
                raise LongTailError(
                    f"The collection {self._name!r} at {self._where} holds vectors {size} wide, the memory's are "
                    f"{self._width}: it is another one's."
                )
            place = None
            while True:
                points, place = client.scroll(
                    self._name, limit=10_000, offset=place, with_payload=False, with_vectors=False
                )
                found += [point.id for point in points]
                if place is None:
                    return np.asarray(found, np.int64)

    @property
    def _where(self) -> str:
        return f"Qdrant at {self.url or self.path or 'this process'}"

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """The client; its errors become one sentence."""
        try:
            yield _client(self.url, self.path, self.timeout)
        except LongTailError:
            raise
        except ImportError as error:
            raise LongTailError("QdrantIndex needs qdrant-client: pip install longtail-lightning[qdrant].") from error
        except Exception as error:  # of its own kinds, one for each way to connect
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise LongTailError(
                f"{self._where} does not answer as it should ({reason}): see that it runs, and is of a release that "
                "the client supports."
            ) from error


@cache
def _client(url: str | None, path: str | None, timeout: int) -> Any:
    """One for all indexes: a local database lets in one alone."""
    from qdrant_client import QdrantClient

    if url is not None:
        key = os.environ.get("QDRANT_API_KEY")
        # The check asks from a thread of its own, whose errors nobody can catch.
        return QdrantClient(url=url, api_key=key, timeout=timeout, check_compatibility=False)
    return QdrantClient(path=path) if path is not None else QdrantClient(":memory:")
