"""Where the features of an extraction go, batch by batch: into memory, or into a folder."""

from __future__ import annotations

import errno
import hashlib
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
from longtail_lightning._files import replace_file, to_disk, writable
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
        self._digest = hashlib.sha256()
        with_offset = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
        self._offset, self._row = with_offset.offset, with_offset.strides[1]
        if labeled:
            self._labels_offset = np.load(folder / LABELS, mmap_mode="r", allow_pickle=False).offset
        # Written, not mapped: on a full disk a write gives an error, but a mapped page kills the process.
        with writable(folder):
            self._features = open(folder / FEATURES, "r+b")  # noqa: SIM115
            self._labels = open(folder / LABELS, "r+b") if labeled else None  # noqa: SIM115

    def done(self) -> set[int]:
        return set(finished_shards(self.folder))

    def damaged(self) -> set[int]:
        """Finished tasks whose rows are not those that were written; they are no longer finished then."""
        wrong = {task for task, written in finished_shards(self.folder).items() if self._checksum(task) != written}
        for task in wrong:
            (self.folder / DONE / str(task)).unlink()
        return wrong

    def _checksum(self, task: int) -> str:
        view, inputs = task // self.shards.per_view, self.shards.inputs(task % self.shards.per_view)
        left, digest = len(inputs) * self._row, hashlib.sha256()
        with open(self.folder / FEATURES, "rb") as file:
            file.seek(self._place(view, inputs.start))
            while left and (block := file.read(min(left, _CHUNK))):
                digest.update(block)
                left -= len(block)
        return digest.hexdigest()

    def _place(self, view: int, row: int) -> int:
        return int(self._offset + (view * self.shards.number + row) * self._row)

    def write(self, view: int, inputs: range, features: Tensor, labels: Tensor | None) -> None:
        with self._full_disk_in_words():
            rows = features.contiguous().numpy().tobytes()
            self._features.seek(self._place(view, inputs.start))
            self._features.write(rows)
            self._digest.update(rows)  # batches of a shard come in their order
            if view == 0 and self._labels is not None and labels is not None:
                self._labels.seek(self._labels_offset + inputs.start * 8)
                self._labels.write(labels.contiguous().numpy().tobytes())

    def finish(self, view: int, shard: int) -> None:
        with self._full_disk_in_words():
            to_disk(self._features)
            if view == 0 and self._labels is not None:
                to_disk(self._labels)
            marker = self.folder / DONE / str(view * self.shards.per_view + shard)
            replace_file(marker, lambda file: file.write(self._digest.hexdigest().encode()))
        self._digest = hashlib.sha256()

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
