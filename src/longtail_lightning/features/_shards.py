"""How an extraction is cut into shards, and where their features go."""

from __future__ import annotations

import errno
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.features import _storage as files

_SHARDS = 64  # aimed at per view: enough to deal to many processes
_LARGEST = 8192  # images that a kill may cost at most, when nothing else is said
_CHUNK = 1 << 26


@dataclass(frozen=True)
class Shards:
    """Shard s of view v holds images `s * size` to `(s + 1) * size`; a task is one shard of one view.

    Shards are whole batches, so a batch holds the same images whoever extracts it: on CPU and GPU the
    features of an image depend in their last bits on how many images are computed with it.
    """

    number: int
    views: int
    batch_size: int
    size: int

    @classmethod
    def of(cls, number: int, views: int, batch_size: int, shard_size: int | None) -> Shards:
        """Round the wanted number of images per shard up to whole batches."""
        wanted = shard_size if shard_size is not None else min(_LARGEST, -(-number // _SHARDS))
        return cls(number, views, batch_size, -(-wanted // batch_size) * batch_size)

    @property
    def per_view(self) -> int:
        """Shards of one view."""
        return -(-self.number // self.size)

    @property
    def total(self) -> int:
        """Tasks."""
        return self.per_view * self.views

    def share(self, rank: int, world_size: int, done: Collection[int]) -> dict[int, list[int]]:
        """What is left to this process: rank r of R takes tasks r, r + R, ...; shards by view."""
        tasks: dict[int, list[int]] = {}
        for task in range(rank, self.total, world_size):
            if task not in done:
                tasks.setdefault(task // self.per_view, []).append(task % self.per_view)
        return tasks

    def images(self, shard: int) -> range:
        """The images of a shard."""
        return range(shard * self.size, min((shard + 1) * self.size, self.number))

    def batches(self, shards: list[int]) -> Iterator[tuple[int, range, bool]]:
        """The batches of some shards: the shard, its images in the batch, and whether the shard ends there."""
        for shard in shards:
            images = self.images(shard)
            for start in range(images.start, images.stop, self.batch_size):
                part = range(start, min(start + self.batch_size, images.stop))
                yield shard, part, part.stop == images.stop

    def as_dict(self) -> dict[str, int]:
        """Plain values."""
        return asdict(self)


class Store(ABC):
    """Takes features batch by batch."""

    shards: Shards

    @abstractmethod
    def done(self) -> set[int]:
        """Tasks that are finished."""

    @abstractmethod
    def write(self, view: int, images: range, features: Tensor, labels: Tensor) -> None:
        """Put a batch in its place."""

    @abstractmethod
    def finish(self, view: int, shard: int) -> None:
        """All batches of a shard are written."""


class MemoryStore(Store):
    """Keeps everything in memory."""

    def __init__(self, shards: Shards, width: int, dtype: torch.dtype) -> None:
        self.shards = shards
        self.features = torch.zeros(shards.views, shards.number, width, dtype=dtype)
        self.labels = torch.zeros(shards.number, dtype=torch.int64)

    def done(self) -> set[int]:
        return set()

    def write(self, view: int, images: range, features: Tensor, labels: Tensor) -> None:
        part = slice(images.start, images.stop)
        self.features[view, part] = features
        if view == 0:
            self.labels[part] = labels

    def finish(self, view: int, shard: int) -> None:
        pass

    def gather(self) -> None:
        """Put together what the processes have: each place was written by one of them, the others hold zeros."""
        on_gpu = dist.get_backend() == "nccl"
        for tensor in (self.features, self.labels):
            # As bytes, whose sum with zeros is exact; -0.0 + 0.0 would lose its sign.
            for chunk in tensor.view(-1).view(torch.uint8).split(_CHUNK):  # type: ignore[no-untyped-call]
                moved = chunk.cuda() if on_gpu else chunk
                dist.all_reduce(moved)
                if on_gpu:
                    chunk.copy_(moved)


class DiskStore(Store):
    """Writes each batch to its place in files that have their final size from the beginning."""

    def __init__(self, folder: Path, shards: Shards) -> None:
        if not (folder / files.LABELS).is_file():
            raise LongTailError(
                f"This process does not see {folder}, which the first one has made: give a path on a disk that "
                "all processes share."
            )
        self.folder = folder
        self.shards = shards
        with_offset = np.load(folder / files.FEATURES, mmap_mode="r", allow_pickle=False)
        self._offset, self._row = with_offset.offset, with_offset.strides[1]
        self._labels_offset = np.load(folder / files.LABELS, mmap_mode="r", allow_pickle=False).offset
        # Written to, not mapped: on a full disk a write gives an error, a mapped page ends the process.
        self._features = open(folder / files.FEATURES, "r+b")  # noqa: SIM115
        self._labels = open(folder / files.LABELS, "r+b")  # noqa: SIM115

    @classmethod
    def create(cls, folder: Path, shards: Shards, width: int, dtype: torch.dtype, progress: dict[str, Any]) -> None:
        """Make the files; with `progress` in its place, the folder is an unfinished bank."""
        shape = (shards.views, shards.number, width)
        numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
        needed = int(np.prod(shape)) * numpy_dtype.itemsize
        remove(folder)
        (folder / files.DONE).mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise LongTailError(
                f"The bank {folder} needs {needed / 1e9:.2f} GB but {free / 1e9:.2f} GB are free: "
                "give another path, fewer views, or keep them as float16."
            )
        for name, kind, size in ((files.FEATURES, numpy_dtype, shape), (files.LABELS, np.int64, (shards.number,))):
            np.lib.format.open_memmap(folder / name, mode="w+", dtype=kind, shape=size)
        files.write_json(folder / files.PROGRESS, progress)

    def done(self) -> set[int]:
        return {int(marker.name) for marker in (self.folder / files.DONE).iterdir()}

    def write(self, view: int, images: range, features: Tensor, labels: Tensor) -> None:
        try:
            self._features.seek(self._offset + (view * self.shards.number + images.start) * self._row)
            self._features.write(features.contiguous().numpy().tobytes())
            if view == 0:
                self._labels.seek(self._labels_offset + images.start * 8)
                self._labels.write(labels.contiguous().numpy().tobytes())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise self._full() from error

    def finish(self, view: int, shard: int) -> None:
        try:
            files.to_disk(self._features)
            if view == 0:
                files.to_disk(self._labels)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise self._full() from error
        (self.folder / files.DONE / str(view * self.shards.per_view + shard)).touch()

    def _full(self) -> LongTailError:
        return LongTailError(
            f"The disk is full, {len(self.done())} of {self.shards.total} shards of the bank {self.folder} are there: "
            "make room and repeat the call to continue."
        )

    def close(self) -> None:
        """Close the files."""
        self._features.close()
        self._labels.close()


def remove(folder: Path) -> None:
    """Delete the files of a bank, and nothing else; without its header it is none from the first moment."""
    for name in (files.HEADER, files.PROGRESS, files.FEATURES, files.LABELS, files.IDS, files.TEXTS):
        (folder / name).unlink(missing_ok=True)
    if (folder / files.DONE).is_dir():
        shutil.rmtree(folder / files.DONE)
