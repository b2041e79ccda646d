"""`ltl verify`: whether checkpoints, feature banks and shards are still what was written."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

from longtail_lightning._errors import LongTailError
from longtail_lightning._progress import progress_bar

_TORCH = (".ckpt", ".pt", ".pth", ".safetensors")


def verify(asked: Namespace) -> int:
    """Read every file from end to end; 1 when one of them is damaged."""
    found = [item for path in asked.paths for item in items(Path(path).expanduser())]
    whole = True
    with progress_bar("Verifying", len(found), shown=sys.stderr.isatty()) as tell:
        for number, path in enumerate(found):
            tell(number, len(found))
            try:
                print(f"{path} {_state(path)}")
            except LongTailError as error:
                whole = False
                # Most sentences name the file themselves.
                print(error if str(path) in str(error) else f"{path}: {error}")
    return 0 if whole else 1


def items(path: Path) -> Iterator[Path]:
    """The checkpoints, banks, folders of shards and memories at a path, and below it."""
    if not path.exists():
        raise LongTailError(f"{path}: there is no such file or folder.")
    below = sorted(path.rglob("*")) if path.is_dir() else []
    found = [each for each in (path, *below) if _is_item(each)]
    memories = {each for each in found if each.is_dir() and _is_memory(each)}
    found = [each for each in found if memories.isdisjoint(each.parents)]  # a memory looks after its own banks
    if not found:
        raise LongTailError(
            f"{path} is no checkpoint, no feature bank, no folder of shards and no memory, and holds none: give what "
            "`ltl fit`, `ltl features`, `ltl data prepare` or `ltl memory build` wrote."
        )
    yield from found


def _is_item(path: Path) -> bool:
    return path.suffix in _TORCH if path.is_file() else _is_bank(path) or _is_shards(path) or _is_memory(path)


def _is_bank(path: Path) -> bool:
    from longtail_lightning.features._storage import HEADER, PROGRESS

    return (path / HEADER).is_file() or (path / PROGRESS).is_file()


def _is_shards(path: Path) -> bool:
    from longtail_lightning.datasets.shard_manifest import MANIFEST

    return (path / MANIFEST).is_file()


def _is_memory(path: Path) -> bool:
    from longtail_lightning.retrieval._memory_manifest import MANIFEST

    return (path / MANIFEST).is_file()


def _state(path: Path) -> str:
    """What to say of a thing that is whole."""
    if path.is_dir():
        from longtail_lightning.datasets import verify_shards
        from longtail_lightning.features import verify_bank

        if _is_memory(path):
            from longtail_lightning.retrieval._memory_manifest import verify_memory

            _require_whole(path, verify_memory(path))
        else:
            _require_whole(path, verify_bank(path) if _is_bank(path) else verify_shards(path))
        return "is whole"
    from longtail_lightning._torch_checksum import check_checksum
    from longtail_lightning._torch_files import read_torch_file

    read_torch_file(path, verify=True)
    if path.suffix == ".safetensors":
        return "can be read; files of this kind carry no checksum"
    with open(path, "rb") as file:
        return "is whole" if check_checksum(file) == "whole" else "can be read; it carries no checksum of the whole"


def _require_whole(path: Path, damaged: Mapping[str, str]) -> None:
    if damaged:
        told = ", ".join(f"{name} {what}" for name, what in damaged.items())
        raise LongTailError(f"{path} is damaged: {told}; make it again, or take a copy.")
