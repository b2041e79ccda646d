"""Refuse a number that is NaN, infinite, out of range, or no whole number where one is needed."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from longtail_lightning._errors import LongTailError


def require_number(
    owner: Any, name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> None:
    """Refuse a value of an argument.

    Args:
        owner: what has the argument; an object stands for its class.
        name: of the argument.
        value: what it was given.
        low: the smallest value.
        high: the largest value.
        above: the value has to be larger than `low`.

    Examples:
        >>> require_number("FocalLoss", "gamma", 2.0, 0)
        >>> require_number("FocalLoss", "gamma", float("nan"), 0)
        Traceback (most recent call last):
        longtail_lightning._errors.LongTailError: FocalLoss needs a finite gamma of at least 0, got nan.
    """
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if number and low <= value <= high and not (above and value == low):
        return
    bounds = f" above {low:g}" if above else f" of at least {low:g}" if low > -math.inf else ""
    if high < math.inf:
        bounds = f" above {low:g} and up to {high:g}" if above else f" from {low:g} to {high:g}"
    called = owner if isinstance(owner, str) else type(owner).__name__
    raise LongTailError(f"{called} needs a finite {name}{bounds}, got {value!r}.")


def require_whole(owner: Any, name: str, value: Any, low: int | None = None) -> None:
    """Refuse a value of an argument that is no whole number of 64 bits.

    Args:
        owner: what has the argument; an object stands for its class.
        name: of the argument.
        value: what it was given.
        low: the smallest value.

    Examples:
        >>> require_whole("CosineHead", "num_classes", 2.5, 1)
        Traceback (most recent call last):
        longtail_lightning._errors.LongTailError: CosineHead needs a whole number of at least 1 as num_classes, got 2.5.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool) and -(2**63) <= int(value) < 2**63
    if whole and (low is None or value >= low):
        return
    bounds = "" if low is None else f" of at least {low}"
    called = owner if isinstance(owner, str) else type(owner).__name__
    raise LongTailError(f"{called} needs a whole number{bounds} as {name}, got {str(value)[:60]}.")
