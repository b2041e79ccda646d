"""Which images each class has."""

from __future__ import annotations

import torch
from torch import Tensor

from longtail_lightning.counts import ClassCounts, as_labels
from longtail_lightning.samplers._base import Labels

_CHUNK = 1 << 20


class ByClass:
    """The images, class after class: `order[first[i] : first[i] + sizes[i]]` are those of `classes[i]`.

    Only classes with images are kept, so nothing that is drawn from here can be empty. `order` takes
    4 bytes per image (8 beyond 2^31 images) and is made without a second copy of the labels.

    Args:
        labels: class index of each image.

    Examples:
        >>> images = ByClass([2, 0, 2])
        >>> images.order.tolist(), images.classes.tolist(), images.sizes.tolist(), images.first.tolist()
        ([1, 0, 2], [0, 2], [1, 2], [0, 1])
    """

    def __init__(self, labels: Labels) -> None:
        labels = as_labels(labels)
        self.counts = ClassCounts.from_labels(labels)
        sizes = self.counts.tensor
        first = sizes.cumsum(0) - sizes
        self.order = _counting_sort(labels, first)
        self.classes = sizes.nonzero().flatten()
        self.sizes = sizes[self.classes]
        self.first = first[self.classes]

    def __len__(self) -> int:
        return len(self.order)


def _counting_sort(labels: Tensor, first: Tensor) -> Tensor:
    """Stable order by class, chunk by chunk: a sort of everything would need 8 bytes per label several times."""
    order = torch.empty(len(labels), dtype=torch.int32 if len(labels) < 2**31 else torch.int64)
    free = first.clone()  # where the next image of each class goes
    for start, chunk in zip(range(0, len(labels), _CHUNK), labels.split(_CHUNK)):  # type: ignore[no-untyped-call]
        chunk, image = chunk.sort(stable=True)
        sizes = torch.bincount(chunk, minlength=len(first))
        # The r-th of its class within the chunk goes to the r-th free place of the class.
        offset = free - (sizes.cumsum(0) - sizes)
        order[offset[chunk] + torch.arange(len(chunk))] = (image + start).to(order.dtype)
        free += sizes
    return order
