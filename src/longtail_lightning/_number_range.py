"""Refuse a number that is NaN, infinite or out of range."""

from __future__ import annotations

import math
from numbers import Real
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
