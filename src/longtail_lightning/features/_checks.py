"""Check what a bank is made of: features, labels, and one value of each kind per input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import as_labels

_DTYPES = (torch.float16, torch.float32, torch.float64)
_CHUNK = 1 << 26
"""How many numbers are checked at a time: a mapped bank is never in memory as a whole."""


class NotFiniteError(LongTailError):
    """Features are NaN or infinite, or too large for the type in which they are to be kept.

    Args:
        message: the sentence.
        dtype: type of the features; `float32` can hold those that are too large for `float16`.
        number: how many of the inputs checked so far have such features.
        names: ids of the first of them.
    """

    def __init__(
        self,
        message: str = "",
        *,
        dtype: torch.dtype | None = None,
        number: int = 0,
        names: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.dtype = dtype
        self.number = number
        self.names = tuple(names)

    @classmethod
    def of(
        cls, number: int, total: int, names: Sequence[Any], dtype: torch.dtype, *, at_least: bool = False
    ) -> NotFiniteError:
        """The error of `number` inputs of `total`, of which the first ones have these names."""
        fix = "store them as float32, or look at these inputs" if dtype == torch.float16 else "look at these inputs"
        return cls(
            f"Features of {'at least ' if at_least else ''}{number} of {total} inputs are NaN or infinite "
            f"(ids {', '.join(map(str, names))}{', ...' if number > len(names) else ''}): {fix}, and check that the "
            "encoder is trained.",
            dtype=dtype,
            number=number,
            names=names,
        )


def as_views(features: Any) -> Tensor:
    """Features as `(views, inputs, features)`, of a type that npy knows."""
    if isinstance(features, np.ndarray):
        # What torch cannot share is copied: read-only and mirrored arrays, those in another order of bytes.
        native = features.dtype.newbyteorder("=")
        foreign = not features.flags.writeable or min(features.strides, default=0) < 0
        features = features.astype(native, copy=foreign)
    try:
        views = torch.as_tensor(features).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise LongTailError(f"features must be an array or a tensor of numbers ({error}): convert them.") from error
    if views.is_complex():
        raise LongTailError("features are complex numbers: give real ones, as torch.view_as_real(...) and flatten.")
    if views.dtype not in _DTYPES:
        views = views.float()
    if views.ndim == 2:
        views = views[None]
    if views.ndim != 3 or 0 in views.shape:
        raise LongTailError(
            f"features must be (inputs, features) or (views, inputs, features), got shape {tuple(views.shape)}: "
            "flatten what the encoder gives."
        )
    return views


def as_bank_labels(labels: Any, num_classes: int | None) -> Tensor:
    """Class indices `(inputs,)` as int64, or multi-hot labels `(inputs, classes)` as uint8."""
    if isinstance(labels, np.ndarray) and not labels.flags.writeable and labels.ndim == 2:
        labels = labels.copy()
    try:
        given = labels if hasattr(labels, "__array__") else list(labels)
    except TypeError as error:
        raise LongTailError(f"labels must be one class index per input, got {str(labels)[:60]!r}.") from error
    if getattr(given, "ndim", 0) != 2 and not _has_rows(given):
        return as_labels(given, num_classes).clone()
    try:
        values = torch.as_tensor(given).detach().cpu().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise LongTailError(f"labels must be a row of 0 and 1 for each input ({error}): give rows alike.") from error
    if num_classes is not None and values.shape[1] != num_classes:
        raise LongTailError(
            f"labels of shape {tuple(values.shape)} are of {values.shape[1]} classes, not of {num_classes}: "
            "give one column per class."
        )
    require_multi_hot(values)
    return values.to(torch.uint8)


def as_rows(indices: Any, number: int) -> Tensor:
    """Numbers of the inputs of a subset, 0 to `number` - 1, from numbers, which may be negative, or truth values."""
    try:
        chosen = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LongTailError(f"A subset is chosen by numbers of inputs or truth values ({error}).") from error
    if chosen.ndim != 1 or ((chosen.is_floating_point() or chosen.is_complex()) and chosen.numel()):
        raise LongTailError(
            f"A subset is chosen by a list of whole numbers or truth values, got {chosen.dtype} of shape "
            f"{tuple(chosen.shape)}."
        )
    if chosen.dtype == torch.bool:
        require_one_each(number, "inputs", **{"truth values": chosen})
        chosen = chosen.nonzero().flatten()
    if chosen.numel() == 0:
        raise LongTailError("A subset without inputs is not a bank: give at least one index.")
    chosen = chosen.long()
    low, high = int(chosen.min()), int(chosen.max())
    if low < -number or high >= number:
        raise LongTailError(f"The bank has {number} inputs, there is no input {high if high >= number else low}.")
    return chosen % number


def require_multi_hot(labels: Tensor) -> None:
    """Refuse anything but 0 and 1, looking at some rows at a time."""
    rows = max(1, _CHUNK // max(1, labels.shape[1]))
    for part in labels.split(rows):  # type: ignore[no-untyped-call]
        if not bool(((part == 0) | (part == 1)).all()):
            raise LongTailError(
                "labels of shape (inputs, classes) must be multi-hot, 0 and 1 only: pass (inputs,) for class indices."
            )


def require_one_each(number: int, unit: str, **given: Any) -> None:
    """Refuse values that are given, but not one for each input or class."""
    for name, values in given.items():
        if values is not None and len(values) != number:
            raise LongTailError(f"A bank of {number} {unit} got {len(values)} {name}: give one for each.")


def require_finite(views: Tensor, ids: Sequence[Any]) -> None:
    """Refuse features that are NaN or infinite, in the name of their inputs."""
    rows = max(1, _CHUNK // views.shape[2])
    wrong: set[int] = set()
    for view in views:
        for start in range(0, len(view), rows):
            bad = ~view[start : start + rows].isfinite().all(1)
            wrong.update((bad.nonzero().flatten() + start).tolist())
    if wrong:
        raise NotFiniteError.of(len(wrong), views.shape[1], [ids[row] for row in sorted(wrong)[:3]], views.dtype)


def _has_rows(values: Any) -> bool:
    first = values[0] if isinstance(values, list) and values else None
    return isinstance(first, (list, tuple)) or getattr(first, "ndim", 0) == 1
