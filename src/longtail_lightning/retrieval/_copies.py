"""Copies of a memory: in this process they share what never changes, another process opens the files."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from longtail_lightning._errors import LongTailError
from longtail_lightning.retrieval._items import Items
from longtail_lightning.retrieval.index import VectorIndex

if TYPE_CHECKING:
    from longtail_lightning.retrieval.memory import RetrievalMemory


def copied_items(items: Items) -> Items:
    """The same items, to be edited without a trace in the first ones; banks are shared.

    Args:
        items: of a memory.
    """
    if any(source.index.external for source in items.sources.values()):
        raise LongTailError(
            "A memory whose vectors lie in a database cannot be copied, as both would edit the same ones: save it to "
            "another folder and load that one."
        )
    sources = {name: replace(source, index=copy.deepcopy(source.index)) for name, source in items.sources.items()}
    copied = Items(sources, items.texts if items.never_extended else list(items.texts))
    copied.edited = items.edited
    return copied


def require_saved(items: Items, path: Path | None) -> None:
    """Refuse to hand a memory that is not as its files are to another process, which opens those.

    Args:
        items: of the memory.
        path: its folder.
    """
    if path is None or items.edited:
        told = "was never written" if path is None else f"was edited since it was written to {path}"
        raise LongTailError(
            f"Another process opens a memory by its folder, and this one {told}: save it first, memory.save("
            f"{'path' if path is None else ''})."
        )


def open_again(kind: type[RetrievalMemory], path: Path, edits: str, like: VectorIndex) -> RetrievalMemory:
    """Open the memory that another process has, mapped from the same files.

    Args:
        kind: class of the memory.
        path: its folder.
        edits: the state of the folder that the other process knows.
        like: an index with the settings of all.
    """
    # Who has sent it has compared the checksums: not every loading process need read the whole index.
    memory = kind.load(path, verify=False, index=like)
    if memory._edits != edits:
        raise LongTailError(f"The memory {path} was changed while it was handed to another process: load it anew.")
    return memory
