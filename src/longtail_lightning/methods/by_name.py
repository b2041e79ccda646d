"""The methods of this library by their names, and lists of methods that users give."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from longtail_lightning import methods as room
from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.methods.base import Retraining

METHODS: dict[str, type[Retraining]] = {
    cls.name: cls
    for cls in vars(room).values()
    if isinstance(cls, type) and issubclass(cls, Retraining) and not inspect.isabstract(cls)
}
"""Name -> class of every method that the room exports."""


def as_methods(methods: str | Retraining | Sequence[str | Retraining]) -> list[Retraining]:
    """Names become methods with the paper's settings."""
    alone = isinstance(methods, str) or not isinstance(methods, Iterable)
    chosen = [_as_method(method) for method in ([methods] if alone else methods)]  # type: ignore[union-attr]
    if not chosen:
        raise LongTailError(f"There are no methods: name at least one of {', '.join(METHODS)}.")
    names = [method.name for method in chosen]
    if twice := {name for name in names if names.count(name) > 1}:
        raise LongTailError(
            f"Two methods are called {twice.pop()!r}, and so would be their files: give one another name, name=..."
        )
    return chosen


def _as_method(method: Any) -> Retraining:
    if isinstance(method, Retraining):
        return method
    if isinstance(method, str):
        if method.lower() not in METHODS:
            raise LongTailError(f"There is no method {method!r}. {did_you_mean(method, METHODS)}")
        return METHODS[method.lower()]()
    if isinstance(method, type) and issubclass(method, Retraining):
        raise LongTailError(f"{method.__name__} is a class, not a method: write {method.__name__}() for it.")
    raise LongTailError(
        f"{method!r} is not a method: name one of {', '.join(METHODS)}, or configure one, such as CRT(epochs=30)."
    )
