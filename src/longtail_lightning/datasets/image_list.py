"""A data set that is a list of image files and their labels; every reader of a benchmark returns one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import as_labels
from longtail_lightning.datasets.decode import MAX_PIXELS, decode_image

_SUFFIXES = "jpg jpeg jpe jfif png webp bmp gif tif tiff ppm pgm pbm pnm avif jp2 tga"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split(" "))


class ImageList(Dataset[tuple[Tensor, int]]):
    """Image files and their labels; item i is `(uint8 RGB image, label)`.

    Args:
        files: paths, relative to `root` when one is given.
        labels: class index of each file.
        root: the folder that the paths start from.
        max_pixels: larger images are refused before they are decoded.

    Examples:
        >>> dataset = ImageList(["cat/1.jpg", "dog/1.jpg"], [0, 1], root="photos")
        >>> len(dataset), dataset.path(1).as_posix()
        (2, 'photos/dog/1.jpg')
    """

    def __init__(
        self, files: Sequence[str | Path], labels: Any, *, root: str | Path | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.labels = as_labels(labels)
        if len(files) != len(self.labels):
            raise LongTailError(f"{len(files)} files but {len(self.labels)} labels: give one label per file.")
        self.max_pixels = max_pixels
        self.root = Path(root) if root is not None else None
        # One buffer instead of a million strings: loading processes share it without copying.
        encoded = [str(file).encode("utf-8", "surrogateescape") for file in files]
        self._ends = np.cumsum([len(name) for name in encoded])
        self._names = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def file(self, index: int) -> str:
        """The path of item `index` as it was given."""
        start = self._ends[index - 1] if index else 0
        return self._names[start : self._ends[index]].tobytes().decode("utf-8", "surrogateescape")

    def path(self, index: int) -> Path:
        """The path of item `index`, below the root."""
        return Path(self.file(index)) if self.root is None else self.root / self.file(index)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return decode_image(self.path(index), max_pixels=self.max_pixels), int(self.labels[index])
