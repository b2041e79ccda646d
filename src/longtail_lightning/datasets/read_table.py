"""Read CSV, TSV and Parquet: the columns of images, labels and splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._open_file import require_file
from longtail_lightning.datasets.hold_out import Split
from longtail_lightning.datasets.image_list import IMAGE_SUFFIXES
from longtail_lightning.datasets.read_text import as_index, csv_rows, first_few, parse_json, read_text, suffix_of

Column = int | str

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_LARGE = 1 << 30
_MOST_COMPRESSED = 100  # paths that differ in a number alone shrink to a tenth
_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?")  # not 007, which is a name


@dataclass(frozen=True, eq=False)
class Table:
    """The columns that matter.

    Args:
        images: paths, or what `ImageBytes` understands.
        labels: as they stand there.
        splits: words such as `train`, one per row; None when the table has no column for them.
        binary: whether `images` are contents, not paths.
        first: the number of the first row of data, as an editor counts.
    """

    images: Any
    labels: Sequence[Any]
    splits: Sequence[Any] | None = None
    binary: bool = False
    first: int = 1


def read_table(file: Path, path: Column, label: Column, split: Column | None) -> Table:
    """Read three columns, given by name or by number."""
    if suffix_of(file) in (".parquet", ".pq"):
        return _read_parquet(file, path, label, split)
    if suffix_of(file) not in (".csv", ".tsv", ".txt"):
        raise LongTailError(f"{file}: tables are read from .csv, .tsv (both also .gz) and .parquet.")
    text = read_text(file)
    start = text.partition("\n")[0]
    delimiter = "\t" if suffix_of(file) == ".tsv" else max(",;\t|", key=start.count)
    rows = csv_rows(text, file, delimiter)
    if not rows:
        raise LongTailError(f"{file.name} is empty, expected a table with one row per image.")
    columns = [_place(column, rows[0], file) for column in (path, label, *([] if split is None else [split]))]
    header = not all(isinstance(column, int) for column in (path, label)) or isinstance(split, str)
    header = header or _is_header(rows, columns)
    first = 2 if header else 1
    rows = rows[header:]
    if not rows:
        raise LongTailError(f"{file.name} has a header and no rows.")
    if short := [number for number, row in enumerate(rows, first) if len(row) <= max(columns)]:
        raise LongTailError(
            f"{file.name}, row {short[0]}: {len(rows[short[0] - first])} columns, expected at least {max(columns) + 1} "
            f"({len(short)} in all)."
        )
    cells = [[row[column].strip() for row in rows] for column in columns]
    return Table(cells[0], cells[1], cells[2] if split is not None else None, first=first)


def _is_header(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> bool:
    """Whether the first row is a header, when columns are given by number: it differs in kind from the second row."""
    if len(rows) < 2 or min(len(rows[0]), len(rows[1])) <= max(columns):
        return False
    files = [Path(row[columns[0]].strip()).suffix.lower() in IMAGE_SUFFIXES for row in rows[:2]]
    numbers = [_NUMBER.fullmatch(row[columns[1]].strip()) is not None for row in rows[:2]]
    return files == [False, True] or numbers == [False, True]


def _place(column: Column, header: Sequence[str], file: Path) -> int:
    names = [name.strip() for name in header]
    if isinstance(column, int):
        if not -len(names) <= column < len(names):
            raise LongTailError(f"{file.name} has {len(names)} columns, there is no column {column} (the first is 0).")
        return column % len(names)
    if column not in names:
        raise LongTailError(f"{file.name} has no column {column!r}. {did_you_mean(column, names)}")
    return names.index(column)


def _read_parquet(file: Path, path: Column, label: Column, split: Column | None) -> Table:
    parquet = import_parquet()
    try:
        require_file(file)
        _require_possible_rows(parquet.read_metadata(file), file)
        schema = parquet.read_schema(file)
        wanted = [schema.names[_place(column, schema.names, file)] for column in (path, label)]
        wanted += [] if split is None else [schema.names[_place(split, schema.names, file)]]
        table = parquet.read_table(file, columns=list(dict.fromkeys(wanted)))
    except LongTailError:
        raise
    except Exception as error:  # Arrow has an exception of its own for each way to be broken
        raise LongTailError(f"{file} cannot be read as Parquet ({str(error).splitlines()[0]}).") from error
    if not len(table):
        raise LongTailError(f"{file.name} is empty, expected one row per image.")
    kind = str(schema.field(wanted[0]).type)
    images, labels = table[wanted[0]], table[wanted[1]].to_pylist()
    binary = "binary" in kind
    if not binary and "string" not in kind:
        raise LongTailError(f"{file.name}: column {wanted[0]!r} is {kind}, expected paths or the bytes of image files.")
    splits = None if split is None else table[wanted[2]].to_pylist()
    return Table(images if binary else images.to_pylist(), labels, splits, binary=binary, first=0)


def _require_possible_rows(metadata: Any, file: Path) -> None:
    """Refuse a table that claims more than its bytes can hold: each row has a path or an image of its own."""
    size = file.stat().st_size
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    claimed = sum(group.total_byte_size for group in groups)
    if metadata.num_rows > size or (claimed > _LARGE and claimed > _MOST_COMPRESSED * size):
        raise LongTailError(
            f"{file} claims {metadata.num_rows:,} rows of {claimed:,} bytes and has {size:,} bytes itself: it is "
            "damaged, or made to fill the memory."
        )


def parquet_class_names(file: Path, label: Column) -> list[str] | None:
    """The class names that the `datasets` library writes into its Parquet files."""
    if suffix_of(file) not in (".parquet", ".pq"):
        return None
    schema = import_parquet().read_schema(file)
    told = parse_json((schema.metadata or {}).get(b"huggingface", b"{}").decode("utf-8", "replace"), file)
    features = told.get("info", {}).get("features", {})
    names = features.get(schema.names[_place(label, schema.names, file)], {}).get("names")
    return None if names is None else [str(name) for name in names]


def import_parquet() -> Any:
    """`pyarrow.parquet`, which is an optional dependency."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise LongTailError(
            "Parquet needs pyarrow: pip install 'longtail-lightning[parquet]', or convert the table to .csv."
        ) from error
    return parquet


def rows_of_split(table: Table, split: Split, file: Path) -> Sequence[int]:
    """The rows of a split, by the words in its column; all of them when there is no such column."""
    if table.splits is None:
        return range(len(table.labels))
    words = [str(word).strip().lower() for word in table.splits]
    if unknown := sorted(set(words) - set(_SPLIT_WORDS)):
        raise LongTailError(
            f"The column of splits in {file.name} holds {first_few(map(repr, unknown))}, expected train, val and test."
        )
    rows = [row for row, word in enumerate(words) if _SPLIT_WORDS[word] == split]
    if split == "train" and not rows:
        raise LongTailError(f"The column of splits in {file.name} calls no row 'train'.")
    return rows


def label_values(
    table: Table, rows: Sequence[int], file: Path, *, as_names: bool = False
) -> Sequence[str] | np.ndarray:
    """The labels of these rows: whole numbers if all of them are, else names."""
    labels = [table.labels[row] for row in rows]
    missing = [row for row, value in zip(rows, labels) if value is None or value == "" or value != value]
    if missing:
        raise LongTailError(
            f"{file.name} has no label in row {missing[0] + table.first} ({len(missing)} in all): "
            "give them one, or remove them."
        )
    words = [value if isinstance(value, str) else str(value) for value in labels]
    numbers = [_NUMBER.fullmatch(word) for word in words]
    if as_names or not all(numbers):
        return words
    return np.array([as_index(match[1], file.name) for match in numbers if match])
