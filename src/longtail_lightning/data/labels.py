"""The labels of a data set, without decoding an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import as_labels

_ATTRIBUTES = ("labels", "targets", "_labels", "_targets")


def labels_of(dataset: Any) -> Tensor:
    """Class index of each item of a data set, read without decoding an image.

    Understands `Subset` (the labels of its indices, in their order), `ConcatDataset`, `TensorDataset`,
    torchvision's data sets (`labels`, `targets`, `_labels`, `samples`), data sets of the `datasets`
    library (column `label` or `labels`) and any object with `labels` or `targets`.

    Args:
        dataset: the data set.

    Example:
        >>> from torch.utils.data import Subset, TensorDataset
        >>> dataset = TensorDataset(torch.zeros(4, 3), torch.tensor([0, 1, 2, 1]))
        >>> labels_of(Subset(dataset, [3, 0])).tolist()
        [1, 0]

    Raises:
        LongTailError: when the labels cannot be found; give the data set a `labels` attribute.
    """
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    if isinstance(dataset, ConcatDataset):
        return torch.cat([labels_of(part) for part in dataset.datasets])
    if isinstance(dataset, TensorDataset):
        return as_labels(dataset.tensors[-1])
    for name in _ATTRIBUTES:
        if (values := getattr(dataset, name, None)) is not None and not callable(values):
            return as_labels(values)
    if (columns := getattr(dataset, "column_names", None)) is not None:
        for name in ("label", "labels"):
            if name in columns:
                return as_labels(dataset[name])
    if (samples := getattr(dataset, "samples", None)) is not None:
        return as_labels([sample[1] for sample in samples])
    raise LongTailError(
        f"Cannot find the labels of {type(dataset).__name__}: give it a `labels` attribute, one class index per item."
    )
