"""Where the features of an extraction go, batch by batch: into memory, or into a folder."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from longtail_lightning._distributed import rank_and_world_size
from longtail_lightning._errors import LongTailError
from longtail_lightning._files import to_disk
from longtail_lightning.features._shards import Shards
from longtail_lightning.features._storage import DONE, FEATURES, LABELS, finished_shards

_CHUNK = 1 << 26


class Writer(ABC):
    """Takes features batch by batch."""

    shards: Shards

    @abstractmethod
    def done(self) -> set[int]:
        """Tasks that are finished."""

    @abstractmethod
    def write(self, view: int, inputs: range, features: Tensor, labels: Tensor | None) -> None:
        """Put a batch in its place."""

    @abstractmethod
    def finish(self, view: int, shard: int) -> None:
        """All batches of a shard are written."""


class MemoryWriter(Writer):
    """Keeps everything in memory."""

    def __init__(self, shards: Shards, width: int, dtype: torch.dtype, labeled: bool) -> None:
        self.shards = shards
        self.features = torch.zeros(shards.views, shards.number, width, dtype=dtype)
        self.labels = torch.zeros(shards.number, dtype=torch.int64) if labeled else None

    def done(self) -> set[int]:
        return set()

    def write(self, view: int, inputs: range, features: Tensor, labels: Tensor | None) -> None:
        part = slice(inputs.start, inputs.stop)
        self.features[view, part] = features
        if view == 0 and self.labels is not None and labels is not None:
            self.labels[part] = labels

    def finish(self, view: int, shard: int) -> None:
        pass

    def gather(self) -> None:
        """Put together what the processes have: each place was written by one of them, the others hold zeros."""
        if rank_and_world_size()[1] == 1:
            return
        on_gpu = dist.get_backend() == "nccl"
        for tensor in (self.features, *([] if self.labels is None else [self.labels])):
            # As bytes, whose sum with zeros is exact; -0.0 + 0.0 would lose its sign.
            for chunk in tensor.view(-1).view(torch.uint8).split(_CHUNK):  # type: ignore[no-untyped-call]
                moved = chunk.cuda() if on_gpu else chunk
                dist.all_reduce(moved)
                if on_gpu:
                    chunk.copy_(moved)


class FolderWriter(Writer):
    """Writes each batch to its place in files that have their final size from the beginning."""

    def __init__(self, folder: Path, shards: Shards, labeled: bool) -> None:
        if not (folder / FEATURES).is_file():
            raise LongTailError(
                f"This process does not see {folder}, which the first one has made: give a path on a disk that "
                "all processes share."
            )
        self.folder = folder
        self.shards = shards
        with_offset = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
        self._offset, self._row = with_offset.offset, with_offset.strides[1]
        if labeled:
            self._labels_offset = np.load(folder / LABELS, mmap_mode="r", allow_pickle=False).offset
        # Written, not mapped: on a full disk a write gives an error, but a mapped page kills the process.
        self._features = open(folder / FEATURES, "r+b")  # noqa: SIM115
        self._labels = open(folder / LABELS, "r+b") if labeled else None  # noqa: SIM115

    def done(self) -> set[int]:
        return finished_shards(self.folder)

    def write(self, view: int, inputs: range, features: Tensor, labels: Tensor | None) -> None:
        with self._full_disk_in_words():
            self._features.seek(self._offset + (view * self.shards.number + inputs.start) * self._row)
            self._features.write(features.contiguous().numpy().tobytes())
            if view == 0 and self._labels is not None and labels is not None:
                self._labels.seek(self._labels_offset + inputs.start * 8)
                self._labels.write(labels.contiguous().numpy().tobytes())

    def finish(self, view: int, shard: int) -> None:
        with self._full_disk_in_words():
            to_disk(self._features)
            if view == 0 and self._labels is not None:
                to_disk(self._labels)
            (self.folder / DONE / str(view * self.shards.per_view + shard)).touch()

    @contextmanager
    def _full_disk_in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise LongTailError(
                f"The disk is full, {len(self.done())} of {self.shards.total} shards of the bank {self.folder} are "
                "there: make room and repeat the call to continue."
            ) from error

    def close(self) -> None:
        """Close the files."""
        self._features.close()
        if self._labels is not None:
            self._labels.close()
