"""A data set of image files that lie in memory or in a table, not in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.decode import MAX_PIXELS, UnreadableImageError, decode_image, renamed


class ImageBytes(Dataset[tuple[Tensor, int]]):
    """Encoded images and their labels; item i is `(uint8 RGB image, label)`.

    Args:
        images: the bytes of a file each, or `{"bytes": ..., "path": ...}` as the `datasets` library stores
            them; without bytes, the path is read. A path alone will do, too.
        labels: class index of each item.
        rows: which of `images` the items are, in the order of the labels; all by default.
        root: the folder that paths start from.
        name: what items without a path are called, with their row.
        max_pixels: larger images are refused before they are decoded.
    """

    def __init__(
        self,
        images: Any,
        labels: Tensor,
        *,
        rows: Sequence[int] | None = None,
        root: Path | None = None,
        name: str = "row",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.images = images
        self.labels = labels
        self.rows = range(len(labels)) if rows is None else rows
        self.root = root
        self.name = name
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.labels)

    def file(self, index: int) -> str:
        """The path that the table gives for item `index`, else its row."""
        _, path = self._content(index)
        return path or f"{self.name}:{self.rows[index]}"

    def source(self, index: int) -> bytes | Path | None:
        """What item `index` is decoded from."""
        data, path = self._content(index)
        return data if data is not None or path is None else (self.root or Path()) / path

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        data, path = self._content(index)
        label = int(self.labels[index])
        if data is None:
            if path is None:
                raise UnreadableImageError(f"{self.file(index)} holds no image.")
            place = path if self.root is None else self.root / path
            return decode_image(place, max_pixels=self.max_pixels), label
        try:
            return decode_image(data, max_pixels=self.max_pixels), label
        except UnreadableImageError as error:
            raise renamed(error, self.file(index)) from error

    def _content(self, index: int) -> tuple[bytes | None, str | None]:
        value = self.images[self.rows[index]]
        value = value.as_py() if hasattr(value, "as_py") else value
        if isinstance(value, dict):
            return value.get("bytes"), value.get("path")
        if value is None or isinstance(value, bytes):
            return value, None
        if isinstance(value, str):
            return None, value
        raise LongTailError(
            f"{self.name}: images must be bytes, paths, or {{'bytes', 'path'}}, got {type(value).__name__}."
        )
