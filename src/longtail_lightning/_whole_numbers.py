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
        values: a sequence, an array or a tensor. One value per class, or per image, needs an order: sets, views of
            dictionaries and iterators are refused, since nobody sees in which order they give their values.
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


def _as_tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, (Mapping, Set, MappingView, Iterator)):
        what = "class" if name == "class_counts" else "image"
        hint = "use ClassCounts.from_labels(labels), or " if isinstance(values, Mapping) else ""
        raise LongTailError(
            f"{name} is a {type(values).__name__}, whose {'classes' if what == 'class' else 'images'} have no order: "
            f"{hint}give a list with one number per {what}."
        )
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
