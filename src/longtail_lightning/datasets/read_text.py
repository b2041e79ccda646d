"""Read text files and what is written in them, and name files in messages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._open_file import not_a_file, open_file

MAX_EXPANDED = 2 << 30
"""Bytes that a compressed text may unpack to; the largest one that is known, of iNaturalist 2021, has half of that."""
_BLOCK = 1 << 20
_LONGEST_LINE = 10_000  # patterns are slow on longer ones


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
    for candidate in (path, root / path):
        if (kind := not_a_file(candidate)) is not None:
            raise LongTailError(f"{what}: {candidate} cannot be read, {kind}, expected a file.")
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
    try:
        with open_file(path) as file:
            content = _expanded(file, path) if path.suffix == ".gz" else file.read()
    except FileNotFoundError as error:
        raise LongTailError(f"There is no file {path}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise LongTailError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", errors="surrogateescape").read()
    if "\0" in text[:1000]:
        raise LongTailError(f"{path} is not a text file: unpack an archive first, and pass the file in it.")
    return text


def _expanded(file: IO[bytes], path: Path) -> bytes:
    """The content of a compressed file, unless that is endless."""
    blocks, size = [], 0
    with gzip.GzipFile(fileobj=file) as stream:
        while block := stream.read(_BLOCK):
            blocks.append(block)
            if (size := size + len(block)) > MAX_EXPANDED:
                raise LongTailError(
                    f"{path} unpacks to more than {MAX_EXPANDED:,} bytes: if it is yours and not a trap, "
                    "unpack it with `gunzip`, and pass the file that comes out."
                )
    return b"".join(blocks)


def parse_json(text: str, path: Path) -> Any:
    """What a JSON file holds; every way to be none is one sentence."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise LongTailError(
            f"{path} is not JSON (line {error.lineno}: {error.msg}); was the download interrupted?"
        ) from error
    except RecursionError as error:
        raise LongTailError(f"{path} nests its lists too deeply to be read.") from error
    except ValueError as error:  # a number of thousands of digits
        raise LongTailError(f"{path} is not JSON that can be read ({error}).") from error


def csv_rows(text: str, path: Path, delimiter: str) -> list[list[str]]:
    """The rows of a table as text; empty ones are left out."""
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        reason = f"a cell is longer than {csv.field_size_limit():,} characters" if "field" in str(error) else error
        raise LongTailError(f"{path} cannot be read as a table ({reason}): is a quotation mark not closed?") from error


def short_lines(text: str, path: Path, *, keep_empty: bool = False) -> list[str]:
    """The lines of a text without the space around them; refuse one that no name or path is as long as."""
    lines = [line.strip() for line in text.split("\n")]
    if (longest := max(map(len, lines))) > _LONGEST_LINE:
        where = next(number for number, line in enumerate(lines, start=1) if len(line) == longest)
        raise LongTailError(f"{path}, line {where} has {longest:,} characters, too many for a name or a path.")
    return lines if keep_empty else [line for line in lines if line]


def as_index(word: str, where: str) -> int:
    """A whole number, if 64 bits hold it; as `int` would take thousands of digits.

    Args:
        word: digits, perhaps with a minus.
        where: what messages call the place.
    """
    try:
        if len(word) <= 20 and -(2**63) <= (number := int(word)) < 2**63:
            return number
    except ValueError:  # other scripts have digits that make no number
        pass
    raise LongTailError(f"{where}: {shown(word[:24])} is no number of a class, as 64 bits hold it.")


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
