"""Read a bank of features in blocks: it may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._whole_numbers import whole_numbers

_ROWS = 8192


class Features(Protocol):
    """What a closed-form head is fitted on: a `FeatureBank`, or anything with these two."""

    @property
    def features(self) -> Any:
        """`(N, num_features)`."""

    @property
    def labels(self) -> Any:
        """`(N,)`."""


def labels_of(bank: Features, owner: str, num_classes: int, device: torch.device) -> Tensor:
    """The class of each input, int64 on a device.

    Args:
        bank: the features.
        owner: who needs the labels, for messages.
        num_classes: of the head.
        device: where the labels go.
    """
    if bank.labels is None or torch.as_tensor(bank.labels).ndim != 1:
        raise LongTailError(f"{owner} needs one label per input, which the bank does not have.")
    labels = whole_numbers(bank.labels, "labels", fractions="labels must be whole class indices.").to(device)
    if len(labels) == 0 or not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        found = f"labels from {int(labels.min())} to {int(labels.max())}" if len(labels) else "no features"
        raise LongTailError(f"The bank has {found}, this head was made for {num_classes} classes.")
    return labels


def blocks_of(bank: Features, labels: Tensor, num_features: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Features, at least in float32, and labels of some inputs at a time, where the labels are."""
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        yield _features(bank.features[rows], labels.device, num_features), labels[rows]


def features_of_classes(
    bank: Features, labels: Tensor, sizes: Tensor, num_features: int
) -> Iterator[tuple[int, Tensor]]:
    """Each class that has inputs, with their features, at least in float32."""
    order = labels.argsort(stable=True).cpu()
    for c, rows in enumerate(torch.split(order, sizes.tolist())):
        if len(rows):
            yield c, _features(bank.features[rows.numpy()], labels.device, num_features)


def _features(part: Any, device: torch.device, num_features: int) -> Tensor:
    features = torch.as_tensor(part).to(device)
    if features.shape[1] != num_features:
        raise LongTailError(f"The bank's features are {features.shape[1]} wide, this head was made for {num_features}.")
    return features.to(torch.promote_types(features.dtype, torch.float32))


def require_finite_sums(sums: Tensor) -> None:
    """Refuse class sums of features that hold NaN or infinity."""
    if not bool(sums.isfinite().all()):
        raise LongTailError("The features hold NaN or infinity: make a FeatureBank of them, which tells where.")
