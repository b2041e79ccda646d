"""The one way to write a file: beside its place, to the disk, then renamed, so that it is whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from longtail_lightning._errors import LongTailError


def replace_file(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file as a whole: a reader sees the old one or the new one, never a part.

    Args:
        path: the file; folders above it are made.
        write: gets the open file.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            write(file)
            to_disk(file)
        os.replace(unfinished, path)
    except OSError as error:
        raise LongTailError(f"{path} cannot be written ({error.strerror}): give another place.") from error
    finally:
        if unfinished.exists():
            unfinished.unlink()
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file; names of files that are no UTF-8 are written as they are."""
    return replace_file(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def write_json(path: str | Path, value: Any) -> Path:
    """Write a JSON file."""
    return write_text(path, json.dumps(value, indent=1) + "\n")


def to_disk(file: IO[bytes]) -> None:
    """Wait until everything that was written lies on the disk."""
    file.flush()
    os.fsync(file.fileno())
