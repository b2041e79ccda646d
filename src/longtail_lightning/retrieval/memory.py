"""The external memory: named sources of items with texts, found by their features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.features import FeatureBank
from longtail_lightning.retrieval._copies import copied_items, open_again, require_saved
from longtail_lightning.retrieval._items import Items, listed
from longtail_lightning.retrieval._memory_files import open_memory, write_memory
from longtail_lightning.retrieval._memory_manifest import verify_memory
from longtail_lightning.retrieval._search import search_items
from longtail_lightning.retrieval._source import Source, require_distinct_ids, require_same_encoder, texts_of
from longtail_lightning.retrieval.faiss_index import FaissIndex
from longtail_lightning.retrieval.index import NOBODY, Metric, VectorIndex
from longtail_lightning.retrieval.neighbors import Neighbors


class RetrievalMemory:
    """Items with features and texts, which can be added, removed and renamed while a model uses them.

    A source is a bank with one text for each item. Sources come and go as a whole; single items are removed or get
    another text by their ids, which are those of the bank. Features never change, and nothing is trained.

    `build` and `load` make one. Changes are in memory until `save`. A deep copy has edits of its own and shares what
    never changes; pickle hands the folder on, so another process maps the same files.

    Args:
        index: an empty index; that of each source gets its settings.

    Examples:
        >>> import torch
        >>> bank = FeatureBank.from_arrays(torch.eye(3), [0, 1, 1], ["a", "b", "c"], class_names=["cat", "dog"])
        >>> memory = RetrievalMemory.build(bank)
        >>> memory.relabel("c", "wolf")
        >>> memory.search(torch.tensor([[0.0, 0.3, 0.9]]), k=2).texts
        [['wolf', 'dog']]
        >>> memory.search(torch.tensor([[0.0, 0.3, 0.9]]), k=2, exclude=["c"]).ids
        [['b', 'a']]

    **Paper.** Long et al., Retrieval Augmented Classification for Long-Tail Visual Recognition, CVPR 2022, section 3.4.
    """

    def __init__(self, index: VectorIndex) -> None:
        self._like = index
        self._items = Items({}, [])
        self._retired: list[VectorIndex] = []
        self._edits: str | None = None
        self.fingerprint: dict[str, Any] = {}
        """What made the features: that of the first source's encoder."""
        self.path: Path | None = None
        """Folder that the memory was loaded from, or last saved to."""

    @classmethod
    def build(
        cls,
        bank: FeatureBank,
        texts: Sequence[str] | None = None,
        *,
        path: str | Path | None = None,
        name: str = "train",
        index: str | VectorIndex = "exact",
        metric: Metric = "cosine",
    ) -> RetrievalMemory:
        """A memory with one source.

        Args:
            bank: features and ids of the items.
            texts: one for each; by default those of the bank, or the names of the items' classes.
            path: folder to write it to; a memory that is there is replaced.
            name: of the source.
            index: `"exact"`, `"hnsw"`, `"ivf"`, or an empty index, whose settings all sources get.
            metric: what is near, for an index given by name: `"cosine"` or `"l2"`.
        """
        if isinstance(index, str):
            if index not in (named := ("exact", "hnsw", "ivf")):
                raise LongTailError(f"Unknown index={index!r}: choose {', '.join(map(repr, named))}, or give one.")
            index = FaissIndex(index, metric=metric)  # type: ignore[arg-type]
        memory = cls(index).add_source(name, bank, texts)
        if path:
            memory.save(path)
        return memory

    # -- what is there ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._items)

    @property
    def sources(self) -> dict[str, int]:
        """Name of each source -> how many items of it are there."""
        return {name: len(source) for name, source in self._items.sources.items()}

    @property
    def metric(self) -> Metric:
        """What is near."""
        return self._like.metric

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self._items.num_features

    @property
    def different_texts(self) -> Sequence[str]:
        """The texts, each once, as `Neighbors.text_numbers` counts them."""
        return self._items.texts

    @property
    def index_settings(self) -> dict[str, Any]:
        """Those of the indexes of all sources."""
        return self._like.settings()

    @property
    def banks(self) -> dict[str, FeatureBank]:
        """Name of each source -> its bank, removed items included."""
        return {name: source.bank for name, source in self._items.sources.items()}

    def has(self, item: Any) -> bool:
        """Whether there is an item.

        Args:
            item: its id, or (source, id).
        """
        return bool((self._items.rows_of([item]) != NOBODY).any())

    def features(self, *items: Any) -> Tensor:
        """`(items, features)`: those of some items.

        Args:
            items: the id of each, or (source, id).
        """
        found = map(self._items.only, items)
        return torch.cat([source.bank.features[row : row + 1] for source, row in found])

    def check(self, bank: FeatureBank) -> RetrievalMemory:
        """Refuse features of another encoder than that of the memory.

        Args:
            bank: the features.
        """
        named, fix = f"The memory {self.path or ''}".rstrip(), "give the model that has encoded its items"
        require_same_encoder(bank.fingerprint, self.fingerprint, named, fix)
        return self

    def text(self, item: Any) -> str:
        """The text of an item.

        Args:
            item: its id, or (source, id).
        """
        source, row = self._items.only(item)
        return str(self._items.texts[source.text_numbers[row]])

    def __repr__(self) -> str:
        told = ", ".join(f"{name}: {number}" for name, number in self.sources.items())
        return f"RetrievalMemory({told or 'no source'}; {self.num_features} features, {self.metric})"

    # -- copies ----------------------------------------------------------------------------------

    def __deepcopy__(self, _: Any) -> RetrievalMemory:
        copied = type(self)(self._like.new())
        copied._items, copied._edits = copied_items(self._items), self._edits
        copied.fingerprint, copied.path = deepcopy(self.fingerprint), self.path
        return copied

    def __copy__(self) -> RetrievalMemory:
        return deepcopy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        require_saved(self._items, self.path)
        return open_again, (type(self), self.path, self._edits, self._like.new())

    # -- edits -----------------------------------------------------------------------------------

    def add_source(self, name: str, bank: FeatureBank, texts: Sequence[str] | None = None) -> RetrievalMemory:
        """Add a bank of items; those of before are not touched.

        Args:
            name: of the source.
            bank: features and ids; of the encoder that made those before.
            texts: one for each item; by default those of the bank, or the names of the items' classes.
        """
        self._items.require_new(name, bank)
        if not self._items.sources:
            self.fingerprint = {}
        named, made = f"The bank of {name!r}", bank.fingerprint.get("encoder")
        require_same_encoder(self.fingerprint, bank.fingerprint, named, "extract it with the memory's")
        require_distinct_ids(bank, name)
        given = texts_of(bank, texts, name)
        added = Source.of(name, bank, np.zeros(len(bank), np.int64), self._like)
        added.text_numbers = np.fromiter(map(self._items.number, given), np.int64, len(bank))
        self._items.take_in(added)
        if made and not self.fingerprint.get("encoder"):
            self.fingerprint = {"encoder": made}
        return self

    def remove_source(self, name: str) -> RetrievalMemory:
        """Take a source out.

        Args:
            name: of the source.
        """
        self._retired.append(self._items.take_out(name).index)
        return self

    def remove(self, ids: Iterable[Any]) -> RetrievalMemory:
        """Remove items.

        Args:
            ids: theirs; (source, id) where several sources have an item of the id.
        """
        self._items.remove(listed(ids))
        return self

    def relabel(self, item: Any, text: str) -> None:
        """Give an item another text.

        Args:
            item: its id, or (source, id).
            text: the new one.
        """
        self._items.relabel(item, text)

    def compact(self) -> RetrievalMemory:
        """Forget what was removed: features, index and texts of it; the memory finds the same as before."""
        before = [source.index for source in self._items.sources.values()]
        self._items = self._items.compacted()
        kept = {id(source.index) for source in self._items.sources.values()}
        self._retired += [index for index in before if id(index) not in kept]
        return self

    def search(self, queries: Any, k: int, exclude: Sequence[Any] | None = None) -> Neighbors:
        """The k nearest items of each query, nearest first.

        Args:
            queries: `(queries, features)`, of the memory's encoder.
            k: how many.
            exclude: for each query an item that it must not find, such as itself: an id, (source, id), or None. A
                bare id is that of every source which has it.
        """
        return search_items(self._items, queries, k, exclude)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path | None = None) -> Path:
        """Write the memory to a folder. Stopped anywhere, the folder is the memory that it was before, or this one.

        Args:
            path: the folder, where a memory that is there is replaced; by default that which it was loaded from.
        """
        if (place := path or self.path) is None:
            raise LongTailError("This memory was never written: say where, save(path).")
        folder = Path(place).absolute()
        own = self.path is not None and folder.resolve() == self.path.resolve()
        known = self._edits if own else None
        self._edits = write_memory(folder, self._items.sources, self._items.texts, self._like, self.fingerprint, known)
        # Indexes of another folder are still needed there.
        retired = self._retired if own or self.path is None else []
        self.path, self._retired, self._items.edited = folder, [], False
        for source in self._items.sources.values():
            source.index.settle()
        for index in retired:
            index.discard()
        return folder

    @classmethod
    def load(
        cls, path: str | Path, *, mmap: bool = True, verify: bool | None = None, index: VectorIndex | None = None
    ) -> RetrievalMemory:
        """Open a memory.

        Args:
            path: its folder.
            mmap: read features, texts and index as they are needed; all processes of a machine share one copy.
            verify: compare every file with its checksum; by default the index alone, up to 2 GB, for a damaged one
                finds wrong items in silence.
            index: an index with the settings of the memory's, for one that is not of this library.
        """
        found = open_memory(Path(path), mmap=mmap, verify=verify, like=index)
        memory = cls(found.like)
        memory._items = Items(found.sources, found.texts)
        memory.fingerprint, memory.path, memory._edits = found.fingerprint, Path(path).absolute(), found.edits
        return memory

    def verify(self) -> dict[str, str]:
        """What is wrong with each damaged file of the memory's folder; empty when all are as they were written."""
        if self.path is None:
            raise LongTailError("This memory was never written: there is no file to verify.")
        return verify_memory(self.path)
