"""Turn a list, an array or a tensor into whole numbers; refuse what has no order, and what is no such number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MappingView, Set
from typing import Any

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError

_LARGEST = float(2**63)


def whole_numbers(values: Any, name: str, *, fractions: str) -> Tensor:
    """An int64 tensor on the CPU, of any shape.

    Args:
        values: a sequence, an array or a tensor; see `require_order`.
        name: what messages call the values.
        fractions: the message for values that are no whole numbers.
    """
    given = _as_tensor(values, name)
    if given.is_complex():
        raise LongTailError(f"{name} are complex numbers: give whole numbers.")
    if given.is_floating_point():
        _refuse(given, ~given.isfinite(), name, "no number of anything")
        if not torch.equal(given, given.round()):
            raise LongTailError(fractions)
        _refuse(given, given.double().abs() >= _LARGEST, name, "larger than 64 bits hold")
    whole = given.detach().to("cpu", torch.int64)
    if given.dtype == torch.uint64:
        _refuse(given.cpu().double(), whole < 0, name, "larger than 64 bits hold")
    return whole


def require_order(values: Any, name: str) -> None:
    """Refuse a single value, sets, views of dictionaries and iterators: nobody sees in which order they give values.

    Args:
        values: one value per class, or per image.
        name: what the message calls the values.
    """
    if isinstance(values, (Mapping, Set, MappingView, Iterator)):
        what = "class" if name.startswith("class_") else "image"
        counted = isinstance(values, Mapping) and name == "class_counts"
        hint = "use ClassCounts.from_labels(labels), or " if counted else ""
        raise LongTailError(
            f"{name} is a {type(values).__name__}, whose {'classes' if what == 'class' else 'images'} have no order: "
            f"{hint}give a list with one value per {what}."
        )
    if not hasattr(values, "__len__") and not hasattr(values, "__iter__"):
        raise LongTailError(f"{name} are one {type(values).__name__}, {str(values)[:60]}: give a list.")


def _as_tensor(values: Any, name: str) -> Tensor:
    require_order(values, name)
    if isinstance(values, (str, bytes, bytearray)):
        raise LongTailError(f"{name} must be whole numbers, got {str(values)[:60]!r}: give a list.")
    if hasattr(values, "__array__") and not isinstance(values, Tensor):
        values = values.__array__()  # pandas' columns too, which may be read-only
        values = values if values.flags.writeable else values.copy()
    try:
        return torch.as_tensor(values if hasattr(values, "__array__") else list(values))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        if "verflow" in str(error):
            raise LongTailError(f"{name} hold a number that is larger than 64 bits hold: what is it?") from error
        raise LongTailError(
            f"{name} must be whole numbers, got {str(values)[:60]!r}: number the classes from 0."
        ) from error


def _refuse(values: Tensor, wrong: Tensor, name: str, why: str) -> None:
    if bool(wrong.any()):
        place = tuple(wrong.nonzero()[0].tolist())
        where = ", ".join(map(str, place))
        raise LongTailError(f"{name}[{where}] is {values[place].item():g}, {why}: give whole numbers.")
