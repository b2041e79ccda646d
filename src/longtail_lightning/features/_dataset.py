"""Ask a data set about its items without loading one: names, labels, and which items of a larger set they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset


class Names(Sequence[str]):
    """What items are called, asked one by one: a million strings would take a hundred times the memory of a table.

    Args:
        name: the name of item i.
        number: how many items there are.
    """

    def __init__(self, name: Callable[[int], str], number: int) -> None:
        self._name = name
        self._number = number

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        places = range(self._number)[index]
        return self._name(places) if isinstance(places, int) else [self._name(place) for place in places]


def files_of(dataset: Any) -> Sequence[str] | None:
    """The files of a data set that tells them, below any subsets."""
    size = len(dataset)
    indices: Sequence[int] = range(size)
    while isinstance(dataset, Subset):
        below = dataset.indices
        indices = [int(below[index]) for index in indices]
        dataset = dataset.dataset
    file = getattr(dataset, "file", None)
    return Names(lambda index: str(file(indices[index])), size) if callable(file) else None


def chosen_items(dataset: Any) -> Tensor | None:
    """Which items of the data set below any subsets these are; None for all of them."""
    if not isinstance(dataset, Subset):
        return None
    indices, below = torch.as_tensor(dataset.indices, dtype=torch.int64), chosen_items(dataset.dataset)
    return indices if below is None else below[indices]


def stored_labels(dataset: Any) -> Tensor | None:
    """The labels that a data set keeps, as they are; for a fingerprint, not for training."""
    if isinstance(dataset, Subset):
        labels = stored_labels(dataset.dataset)
        return None if labels is None else labels[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    values = dataset.tensors[-1] if isinstance(dataset, TensorDataset) and len(dataset.tensors) > 1 else None
    for name in ("labels", "targets"):
        values = getattr(dataset, name, None) if values is None else values
    try:
        return None if values is None or callable(values) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None  # the labels are not numbers
