"""The labels of a data set, without decoding an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision.datasets import DatasetFolder, INaturalist

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import as_labels

_COLUMNS = ("labels", "targets", "_labels", "_targets", "y")
"""Where data sets keep one label per item; the underscored ones are torchvision's."""
_PAIRS = ("samples", "_samples", "_flat_character_images")
"""Where they keep (file, label) pairs."""


def labels_of(dataset: Any) -> Tensor:
    """Class index of each item of a data set, read without decoding an image.

    Understands `Subset` (the labels of its indices, in their order) and `random_split`,
    `ConcatDataset`, `TensorDataset`, torchvision's data sets for classification, data sets of the
    `datasets` library (column `label` or `labels`), any object with `labels` or `targets`, and all of
    them inside each other. A `target_transform` is applied: it must give the same label for the same
    target.

    Args:
        dataset: the data set.

    Examples:
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
    name = type(dataset).__name__
    if (values := _stored(dataset)) is None:
        raise LongTailError(
            f"Cannot find the labels of {name}: give it a `labels` attribute with one class index per item."
        )
    try:
        labels = _transformed(as_labels(values), getattr(dataset, "target_transform", None))
    except LongTailError as error:
        raise LongTailError(f"{name}: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise LongTailError(
            f"The labels of {name} are not class indices ({error}): "
            "give it a `labels` attribute with one class index per item."
        ) from error
    if len(labels) != len(dataset):
        raise LongTailError(
            f"{name} has {len(dataset)} items but {len(labels)} labels: "
            "give it a `labels` attribute with one class index per item."
        )
    return labels


def _stored(dataset: Any) -> Any:
    columns = getattr(dataset, "column_names", None) or ()
    for name in ("label", "labels"):
        if name in columns:
            # The data set's own transform would run on the column, and look for images in it.
            plain = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
            column = plain[name]
            return column if hasattr(column, "__len__") else list(column)
    if isinstance(dataset, DatasetFolder):
        # Its `targets` are a copy, which stays the same when somebody filters `samples`.
        return [label for _, label in dataset.samples]
    if isinstance(dataset, INaturalist):
        return _inaturalist(dataset)
    for name in _COLUMNS:
        values = getattr(dataset, name, None)
        if values is not None and not callable(values):
            return values
    for name in _PAIRS:
        if (pairs := getattr(dataset, name, None)) is not None:
            return [pair[1] for pair in pairs]
    return None


def _inaturalist(dataset: INaturalist) -> list[int]:
    categories = [category for category, _ in dataset.index]
    if len(dataset.target_type) != 1:
        raise LongTailError(f"INaturalist with target_type={dataset.target_type}: choose one level as the class.")
    (level,) = dataset.target_type
    return categories if level == "full" else [dataset.categories_map[category][level] for category in categories]


def _transformed(labels: Tensor, transform: Any) -> Tensor:
    if transform is None:
        return labels
    values, place = torch.unique(labels, return_inverse=True)
    return as_labels([int(transform(value)) for value in values.tolist()])[place]
