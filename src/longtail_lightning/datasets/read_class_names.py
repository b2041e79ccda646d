"""The names of the classes, from the files that data sets bring along."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.read_text import csv_rows, first_few, parse_json, read_text, short_lines, suffix_of

ClassNamesLike = str | Path | Sequence[str]

_NAME_FIELDS = ("name", "class_name", "class", "category", "label_name", "label")
_INDEX_FIELDS = ("index", "id", "class_index", "class_id", "category_id", "label_id", "label")


def read_class_names(path: str | Path) -> list[str]:
    r"""Read one name per class, in class order.

    A folder stands for the names of its sub-folders. Understands text with one name per line, with a
    number before or after the name (`/a/abbey 0` of Places, `1 001.Albatross`) or an ImageNet id
    before it; JSON that holds a list, `{index: name}`, `{name: index}`, ImageNet's
    `{index: [id, name]}`, or the categories of a COCO-style file; CSV with a column of names and
    perhaps one of numbers. Each may be compressed with gzip. Numbers may start at 0 or at 1.

    Args:
        path: the file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "categories.txt")
        ...     _ = file.write_text("/a/abbey 0\n/b/bar 1\n")
        ...     read_class_names(file)
        ['abbey', 'bar']
    """
    path = Path(path).expanduser()
    suffix = suffix_of(path)
    text = "" if path.is_dir() else read_text(path)
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    elif suffix == ".json":
        names = _of_json(text, path)
    elif suffix in (".csv", ".tsv"):
        names = _of_csv(text, path, "\t" if suffix == ".tsv" else ",")
    else:
        names = _of_lines(short_lines(text, path))
    if not names:
        raise LongTailError(f"{path} holds no class names: write one per line of a text file.")
    return names


def as_class_names(names: ClassNamesLike) -> list[str]:
    """Names as they are, or those of a file."""
    return read_class_names(names) if isinstance(names, (str, Path)) else [str(name) for name in names]


def _of_lines(lines: list[str]) -> list[str]:
    places = all(re.match(r"/\w/\S", line) for line in lines)
    for pattern in (r"(?P<name>.+?)[\s,;:]+(?P<index>\d{1,18})", r"(?P<index>\d{1,18})[\s,;:]+(?P<name>.+)"):
        found = [re.fullmatch(pattern, line) for line in lines]
        pairs = [(int(match["index"]), match["name"][3 if places else 0 :]) for match in found if match]
        # `class 1`, `class 2` are names, not one name with numbers.
        distinct = len({name for _, name in pairs}) == len(lines)
        if distinct and (names := _in_order(pairs)) is not None:
            return names
    for pattern in (r"n\d{8}[\s,]+(?P<name>.+)", r"(?P<name>.+)\s+(?P=name)"):
        found = [re.fullmatch(pattern, line) for line in lines]
        if all(found):
            return [match["name"] for match in found if match]
    return lines


def _of_json(text: str, path: Path) -> list[str]:
    content = parse_json(text, path)
    if isinstance(content, dict) and isinstance(content.get("categories"), list):
        content = content["categories"]
    if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        return _of_rows(content, path)
    if isinstance(content, list):
        return [str(name) for name in content]
    if not content:
        return []
    if not isinstance(content, dict):
        raise LongTailError(f"{path} holds a {type(content).__name__}, expected a list of names or {{index: name}}.")
    if all(isinstance(value, int) for value in content.values()):
        pairs = [(index, name) for name, index in content.items()]
    else:
        if wrong := [key for key in content if not re.fullmatch(r"\s*\d{1,18}\s*", key)]:
            raise LongTailError(f"{path}: {wrong[0]!r} is not a class index; expected {{index: name}}.")
        last = [value[-1] if isinstance(value, list) else value for value in content.values()]
        pairs = [(int(key), str(name)) for key, name in zip(content, last)]
    return _numbered(pairs, path)


def _of_csv(text: str, path: Path, delimiter: str) -> list[str]:
    table = csv_rows(text, path, delimiter)
    if not table:
        return []
    header = [cell.strip().lower() for cell in table[0]]
    if any(field in header for field in _NAME_FIELDS):
        return _of_rows([dict(zip(header, row)) for row in table[1:]], path)
    return _of_lines([" ".join(cell.strip() for cell in row) for row in table])


def _of_rows(rows: Sequence[dict[str, Any]], path: Path) -> list[str]:
    """Records with a field for the name and perhaps one for the number."""
    if not rows:
        return []
    name = next((field for field in _NAME_FIELDS if field in rows[0]), None)
    if name is None:
        raise LongTailError(
            f"{path}: none of the fields {first_few(rows[0])} is a class name; call it {_NAME_FIELDS[0]!r}, "
            "and that of its number 'index'."
        )
    index = next((field for field in _INDEX_FIELDS if field in rows[0] and field != name), None)
    try:
        if index is None:
            return [str(row[name]).strip() for row in rows]
        pairs = [(int(row[index]), str(row[name]).strip()) for row in rows]
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        needed = repr(name) if index is None else f"{name!r} and a whole number as {index!r}"
        raise LongTailError(f"{path}: every class needs {needed} ({error}).") from error
    if len({number for number, _ in pairs}) < len(pairs):
        raise LongTailError(f"{path} gives two classes the same {index!r}.")
    # Numbers with gaps come from a catalog: only their order counts.
    return [label for _, label in sorted(pairs)]


def _numbered(pairs: list[tuple[int, str]], path: Path) -> list[str]:
    names = _in_order(pairs)
    if names is None:
        numbers = sorted(number for number, _ in pairs)
        raise LongTailError(
            f"{path} numbers {len(pairs)} classes from {numbers[0]} to {numbers[-1]}: "
            "expected every number from 0 (or from 1) once."
        )
    return names


def _in_order(pairs: list[tuple[int, str]]) -> list[str] | None:
    """Names by number, when the numbers run from 0 or from 1 without a gap."""
    numbers = sorted(number for number, _ in pairs)
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(pairs))) or numbers[0] > 1:
        return None
    return [name for _, name in sorted(pairs)]
