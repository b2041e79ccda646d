"""Open text files, and name files in messages."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError, did_you_mean


def find_file(name: str | Path, root: Path, what: str) -> Path:
    """A file that is given relative to where the user stands, or to the data folder.

    Args:
        name: as given.
        root: the data folder.
        what: what the file is, for the message.
    """
    path = Path(name).expanduser()
    for candidate in (path, root / path):
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise LongTailError(f"{what}: {path} is a folder, expected a file.")
    folders = [place.parent for place in (path, root / path) if place.parent.is_dir()]
    siblings = [entry.name for folder in folders for entry in folder.iterdir() if entry.is_file()]
    hint = did_you_mean(path.name, siblings, listing=f"ls {folders[-1] if folders else path.parent}")
    where = "" if root == Path() else f", neither here nor below {root}"
    raise LongTailError(f"{what}: there is no file {path}{where}. {hint}")


def read_text(path: Path) -> str:
    """The text of a file, also of one that is compressed with gzip.

    Bytes that are not UTF-8 survive as surrogates: that is how Python names files, so old file names still
    lead to their files.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape") as file:
            text: str = file.read()
    except FileNotFoundError as error:
        raise LongTailError(f"There is no file {path}.") from error
    except (OSError, EOFError) as error:
        raise LongTailError(f"{path} cannot be read ({error}).") from error
    if "\0" in text[:1000]:
        raise LongTailError(f"{path} is not a text file: unpack an archive first, and pass the file in it.")
    return text


def suffix_of(path: Path) -> str:
    """The ending of a file name in small letters, without a final `.gz`."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def shown(name: object) -> str:
    """A name that can be printed and written anywhere."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def first_few(names: Iterable[object]) -> str:
    """The first three names.

    Examples:
        >>> first_few(["cat", "dog"]), first_few(range(7))
        ('cat, dog', '0, 1, 2, ...')
    """
    names = list(names)
    return ", ".join(shown(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
