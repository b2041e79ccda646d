"""Join data sets, and number their labels anew."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning.datasets.decode import ImageSource
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.nested import encoded_image, item_name, max_pixels_of, whole_batch


class JoinedImages(Dataset[tuple[Any, int]]):
    """Data sets one after the other. Each has a table from its labels to the joint ones; items know their source.

    Args:
        parts: items `(image, label)`.
        tables: for each part, from its class indices to the new ones.
        names: one per part.
    """

    def __init__(self, parts: Sequence[Dataset[Any]], tables: Sequence[Tensor], *, names: Sequence[str]) -> None:
        self.parts = list(parts)
        self.names = list(names)
        own = [labels_of(part) for part in parts]
        self.labels = torch.cat([table[labels] for table, labels in zip(tables, own)])
        self._ends = torch.tensor([len(labels) for labels in own]).cumsum(0).tolist()
        self.max_pixels = max(max_pixels_of(part, 0) for part in parts)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        part, place = self.locate(index)
        return self.parts[part][place][0], int(self.labels[index])

    def locate(self, index: int) -> tuple[int, int]:
        """Part and place within it of item `index`."""
        part = bisect_right(self._ends, index)
        return part, index - (self._ends[part - 1] if part else 0)

    def file(self, index: int) -> str:
        """The name of the part, and what the item is called there."""
        part, place = self.locate(index)
        return f"{self.names[part]}/{item_name(self.parts[part], place)}"

    def source(self, index: int) -> ImageSource | None:
        """What item `index` is decoded from, when it is an encoded image."""
        part, place = self.locate(index)
        return encoded_image(self.parts[part], place)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """Images and labels of many items at once, when all their parts can give that and the images fit together."""
        places: dict[int, list[tuple[int, int]]] = {}
        for position, index in enumerate(indices):
            part, place = self.locate(index)
            places.setdefault(part, []).append((position, place))
        pieces = []
        for part, own in places.items():
            if (whole := whole_batch(self.parts[part], [place for _, place in own])) is None:
                return None
            pieces.append(whole[0])
        if len({(piece.shape[1:], piece.dtype, piece.device) for piece in pieces}) != 1:
            return None
        order = torch.tensor([position for own in places.values() for position, _ in own]).argsort()
        images = torch.cat(pieces)
        return images.index_select(0, order.to(images.device)), self.labels[torch.as_tensor(indices)]
