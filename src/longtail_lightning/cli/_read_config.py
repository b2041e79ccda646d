"""Read a config file as plain values; one that would grow without end is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError

MAX_VALUES = 1_000_000
"""Values in a config, counted as often as its anchors repeat them."""


def read_config(path: Path) -> dict[str, Any]:
    """What a YAML file holds.

    Args:
        path: the file. jsonargparse, which may read it later, would not name it in its errors.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        if _values(yaml.compose(text, Loader=yaml.SafeLoader)) > MAX_VALUES:
            raise LongTailError(
                f"--config {path} holds more than {MAX_VALUES:,} values, which its anchors (&name, *name) repeat: "
                "write them out, or give another file."
            )
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or "it is not text"
        raise LongTailError(f"--config {path}{where}: this is not YAML ({what}).") from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, LongTailError):
            raise
        what = "its values are nested without end" if isinstance(error, RecursionError) else str(error)
        raise LongTailError(f"--config {path}: this is no config ({what}).") from error
    if not isinstance(values, dict):
        told = "the file is empty" if values is None else f"it holds a {type(values).__name__}, not `key: value`"
        raise LongTailError(f"--config {path}: {told}. `ltl cp quickstart` writes one to begin with.")
    return values


def _values(root: Any) -> int:
    """How many values a tree of YAML has, when what an anchor names is counted each time."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()
    todo = [] if root is None else [root]
    while todo:  # not by recursion, which the depth of a file could exhaust
        node = todo[-1]
        inner = [child for child in _children(node) if id(child) not in sizes]
        if id(node) in open_ or not inner:
            sizes[id(node)] = 1 + sum(sizes.get(id(child), MAX_VALUES) for child in _children(node))
            open_.discard(id(node))
            todo.pop()
        else:
            open_.add(id(node))
            todo += [child for child in inner if id(child) not in open_]
    return sizes.get(id(root), 0)


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node.value, str):
        return
    for child in node.value:
        yield from child if isinstance(child, tuple) else (child,)
