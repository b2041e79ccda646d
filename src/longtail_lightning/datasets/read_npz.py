"""Arrays in zip files, .npz and .pt, that may claim to be larger than any memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from longtail_lightning._errors import LongTailError

MAX_UNPACKED = 4 << 30
"""Bytes that a member of a zip file may unpack to, however small it is."""
MAX_RATIO = 100
"""How many times its own size a larger member may unpack to; images shrink to a tenth at best."""


class Npz(Mapping[str, np.ndarray]):
    """The arrays of an .npz file, each read when it is asked for; no file stays open."""

    def __init__(self, path: Path) -> None:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile(str(path))
        require_possible_zip(path)
        self.path = path
        with np.load(path, allow_pickle=False) as file:
            self.names = list(file.files)

    def __getitem__(self, name: str) -> np.ndarray:
        with np.load(self.path, allow_pickle=False) as file:
            array: np.ndarray = file[name]
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def require_possible_zip(path: Path) -> None:
    """Refuse a zip file whose members unpack to many times their own size; other files are not looked at."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        for member in file.infolist():
            if member.file_size > max(MAX_UNPACKED, MAX_RATIO * member.compress_size):
                raise LongTailError(
                    f"{path}: {member.filename} unpacks from {member.compress_size:,} to {member.file_size:,} bytes, "
                    "which would fill the memory: if it is yours and no trap, save it uncompressed, with numpy.savez."
                )
