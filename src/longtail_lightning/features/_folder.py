"""The folder of an extraction: start it, resume it, or find it finished; turn it into a bank at the end."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import locked, writable, write_json
from longtail_lightning.features._bank_files import arrays_of, header_of
from longtail_lightning.features._fingerprint import require_equal
from longtail_lightning.features._shards import Shards
from longtail_lightning.features._source import Source
from longtail_lightning.features._storage import (
    DAMAGED,
    DONE,
    FEATURES,
    HEADER,
    LABELS,
    PROGRESS,
    DamagedBankError,
    as_tensor,
    read_array,
    read_header,
    read_progress,
    remove_bank,
    remove_leftovers,
    write_bank,
)
from longtail_lightning.features._writers import FolderWriter
from longtail_lightning.features.bank import FeatureBank


@dataclass(frozen=True)
class Folder:
    """Where a bank is extracted to, and what it will be.

    Args:
        path: the folder.
        shards: how the work is cut.
        width: number of features.
        dtype: type of the features.
        labeled: whether the inputs come with labels.
        device: type of the device that computes them.
        fingerprint: that of the bank.
        resume: what continues it, in the words of the user.
        instead: what to do where another bank is, in the words of the user.
    """

    path: Path
    shards: Shards
    width: int
    dtype: torch.dtype
    labeled: bool
    device: str
    fingerprint: dict[str, Any]
    resume: str
    instead: str

    def claim(self, overwrite: bool, held: ExitStack) -> bool:
        """Lock the folder and make it ready to be written to; or return that the wanted bank is there already.

        Args:
            overwrite: begin anew, whatever is there.
            held: keeps the lock. A finished bank is opened without it: by many at once, and from a read-only folder.
        """
        if self.path.is_file():
            raise LongTailError(f"{self.path} is a file, a bank is a folder: give another path.")
        if not overwrite and self._is_finished():
            remove_leftovers(self.path)
            return True
        held.enter_context(locked(self.path))
        if not overwrite and self._is_finished():  # meanwhile, by another process
            return True
        if overwrite or not self._is_begun():
            self._begin()
        return False

    def _is_finished(self) -> bool:
        """Whether the wanted bank is there; another one is refused. A damaged bank counts as missing."""
        if not (self.path / HEADER).is_file():
            return False
        found = read_header(self.path)["fingerprint"]
        require_equal(self.fingerprint, found, f"The bank {self.path}", self.instead)
        try:
            FeatureBank.load(self.path)
        except DamagedBankError as error:
            self._tell_damage(error)
            return False
        return True

    def _is_begun(self) -> bool:
        """Whether shards of the wanted bank are there; those of another one are refused."""
        if (self.path / HEADER).is_file() or not (self.path / PROGRESS).is_file():
            return False
        before = read_progress(self.path)
        named = f"The unfinished bank {self.path}"
        require_equal(self.fingerprint, before["fingerprint"], named, self.instead)
        require_equal({"extraction": self._plan()}, {"extraction": before["plan"]}, named, self.instead)
        try:
            self.writer().close()
        except (LongTailError, *DAMAGED) as error:
            self._tell_damage(error)
            return False
        return True

    def writer(self) -> FolderWriter:
        """What writes to the folder, when it is ready."""
        return FolderWriter(self.path, self.shards, self.labeled)

    def finalize(self, writer: FolderWriter, source: Source) -> None:
        """Turn the finished shards into a bank."""
        missing = self.shards.total - len(writer.done())
        if missing:
            raise LongTailError(
                f"{missing} of {self.shards.total} shards are missing in {self.path}: all processes must see the same "
                "folder; give a path on a shared disk, or repeat the call."
            )
        if damaged := writer.damaged():
            raise LongTailError(
                f"{len(damaged)} of {self.shards.total} shards in {self.path} are not what was written: another "
                "process has changed them, or the disk has; repeat the call to compute them again."
            )
        # The call that began may have named the split; the one that resumes need not.
        fingerprint = read_progress(self.path)["fingerprint"]
        names = (FEATURES, *([LABELS] if self.labeled else []))
        features, *labels = (as_tensor(read_array(self.path / name)) for name in names)
        bank = bank_of_source(source, features, labels[0] if labels else None, fingerprint)
        with writable(self.path):
            write_bank(self.path, arrays_of(bank), header_of(bank), there=("features",))

    def _begin(self) -> None:
        """Make the files; once `PROGRESS` is written, the folder is an unfinished bank."""
        shape = (self.shards.views, self.shards.number, self.width)
        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        with writable(self.path):
            remove_bank(self.path)
            (self.path / DONE).mkdir(parents=True)
            needed, free = int(np.prod(shape)) * dtype.itemsize, shutil.disk_usage(self.path).free
            if needed > free:
                raise LongTailError(
                    f"The bank {self.path} needs {needed / 1e9:.2f} GB but {free / 1e9:.2f} GB are free: "
                    "give another path, fewer views, or keep them as float16."
                )
            np.lib.format.open_memmap(self.path / FEATURES, mode="w+", dtype=dtype, shape=shape)
            if self.labeled:
                np.lib.format.open_memmap(self.path / LABELS, mode="w+", dtype=np.int64, shape=shape[1:2])
            state = {"shards": self.shards.total, "plan": self._plan()}
            told = {"fingerprint": self.fingerprint, "resume": self.resume}
            write_json(self.path / PROGRESS, {**state, **told})

    def _plan(self) -> Mapping[str, Any]:
        own = {"num_features": self.width, "labels": self.labeled, "device": self.device}
        return {**self.shards.as_dict(), **own}

    def _tell_damage(self, error: Exception) -> None:
        warnings.warn(f"What is in {self.path} is damaged and made again: {error}", stacklevel=2)


def bank_of_source(source: Source, features: Any, labels: Any, fingerprint: dict[str, Any]) -> FeatureBank:
    """A bank of extracted features, with what the source knows of its items."""
    known, (num_classes, names) = source.labels(), source.classes()
    return FeatureBank.from_arrays(
        features,
        labels if known is None else known,
        source.ids(),
        source.texts(),
        num_classes=num_classes,
        class_names=names,
        fingerprint=fingerprint,
    )
