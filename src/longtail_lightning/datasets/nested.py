"""Look inside subsets and joined data sets: for an item's name, for its encoded image, or for whole batches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from longtail_lightning.datasets.decode import MAX_PIXELS, ImageSource


def item_name(dataset: Any, index: int) -> str:
    """The file of an item, when the data set below any subsets knows it; its index otherwise."""
    dataset, index = innermost(dataset, index)
    file = getattr(dataset, "file", None)
    return str(file(index)) if callable(file) else _torchvision_file(dataset, index) or str(index)


def encoded_image(dataset: Any, index: int) -> ImageSource | None:
    """The file or the bytes that an item is decoded from; None when it is no encoded image."""
    dataset, index = innermost(dataset, index)
    for method in ("source", "path"):
        if callable(ask := getattr(dataset, method, None)):
            encoded: ImageSource | None = ask(index)
            return encoded
    return _torchvision_file(dataset, index)


def max_pixels_of(dataset: Any, index: int) -> int:
    """The largest image that the data set of an item decodes."""
    limit: int = getattr(innermost(dataset, index)[0], "max_pixels", MAX_PIXELS)
    return limit


def whole_batch(dataset: Any, indices: Sequence[int] | np.ndarray) -> Any:
    """The batch in one piece, when the data set below any subsets can give it; else None."""
    while isinstance(dataset, Subset):
        indices = [dataset.indices[index] for index in np.asarray(indices).tolist()]
        dataset = dataset.dataset
    fetch = getattr(dataset, "batch", None)
    return fetch(indices) if fetch is not None else None


def innermost(dataset: Any, index: int) -> tuple[Any, int]:
    """The data set below all subsets and joined sets that holds the item, and the item's place there."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        else:
            part = bisect_right(dataset.cumulative_sizes, index)
            dataset, index = dataset.datasets[part], index - (dataset.cumulative_sizes[part - 1] if part else 0)
    return dataset, index


def _torchvision_file(dataset: Any, index: int) -> str | None:
    pairs = getattr(dataset, "samples", None)  # torchvision's folders
    return str(pairs[index][0]) if isinstance(pairs, list) and isinstance(pairs[index], tuple) else None
