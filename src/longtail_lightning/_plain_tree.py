"""Values of a file that lists and dicts hold: refused when they contain themselves, or repeat without end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError

MAX_VALUES = 100_000_000
"""Values in a file, a list that is held in several places counted each time."""
MAX_DEPTH = 100
"""Lists within lists. Whoever walks through them by recursion goes as deep."""


def require_tree(value: Any, path: str | Path) -> None:
    """Refuse values that whoever walks through them would never finish.

    A pickle keeps a list once and names it in as many places as it likes, also in itself. A few hundred bytes can
    thus stand for more values than any memory holds.

    Args:
        value: what a file holds.
        path: the file.
    """
    sizes: dict[int, int] = {}
    open_: dict[int, tuple[Any, Iterator[Any]]] = {}
    if _is_container(value):
        open_[id(value)] = (value, iter(_inner(value)))
    while open_:  # not by recursion, which the depth of a file could exhaust
        container, rest = next(reversed(open_.values()))
        for item in rest:
            if id(item) in open_ or len(open_) > MAX_DEPTH:
                raise LongTailError(f"{path} holds values that are nested without end: it is damaged, or made so.")
            if id(item) not in sizes:
                open_[id(item)] = (item, iter(_inner(item)))
                break
        else:
            open_.popitem()
            size = len(container) + sum(sizes[id(item)] for item in _inner(container))
            if size > MAX_VALUES:
                raise LongTailError(
                    f"{path} holds more than {MAX_VALUES:,} values, as it repeats the same ones: it is damaged, or "
                    "made so."
                )
            sizes[id(container)] = size


def _inner(container: Any) -> Iterable[Any]:
    """The containers that stand in one."""
    values = container.values() if isinstance(container, Mapping) else container
    return [item for item in values if _is_container(item)]


def _is_container(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, Mapping)) and len(value) > 0
