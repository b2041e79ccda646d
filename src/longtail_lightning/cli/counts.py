"""`ltl counts`: the class counts of a data module or a labels file."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._open_file import require_file

if TYPE_CHECKING:
    from longtail_lightning.counts import ClassCounts


def counts(asked: Namespace) -> int:
    """Print a table per split and a histogram."""
    if (asked.file is None) == (not asked.components):
        raise LongTailError("`ltl counts` takes one labels file, or --data; see `ltl counts --help`.")
    of = _of_datamodule(asked.components) if asked.components else _of_file(Path(asked.file), asked.column)
    from longtail_lightning.report.tables import print_class_counts

    print_class_counts(*of, many=asked.many, few=asked.few, convention=asked.convention)
    return 0


def _of_datamodule(args: list[str]) -> tuple[ClassCounts, list[str]]:
    from longtail_lightning.cli.instantiate import instantiate_data

    datamodule = instantiate_data(args)
    return datamodule.class_counts, datamodule.class_names


def _of_file(path: Path, column: str) -> tuple[ClassCounts, list[str]]:
    require_file(path)
    if not path.is_file():
        raise LongTailError(f"`ltl counts {path}`: there is no such file; for a data module write --data CLASS.")
    readers = {".txt": _read_txt, ".csv": _read_csv, ".npy": _read_npy, ".pt": _read_pt, ".json": _read_json}
    if path.suffix not in readers:
        raise LongTailError(f"{path}: labels are read from {', '.join(readers)}.")
    from longtail_lightning.counts import ClassCounts
    from longtail_lightning.datasets.read_text import as_index

    try:
        labels = readers[path.suffix](path, column)
    except (ValueError, EOFError, csv.Error) as error:  # LongTailError is a ValueError, too
        if isinstance(error, LongTailError):
            raise
        raise LongTailError(f"{path} is no {path.suffix} file, or a damaged one: give another file.") from error
    if getattr(labels, "ndim", int(isinstance(labels, list))) == 0:
        raise LongTailError(f"{path} holds a {type(labels).__name__}, expected a list with one label per image.")
    if len(labels) and isinstance(labels[0], str):
        names = sorted(set(labels), key=lambda name: (not name.lstrip("-").isdigit(), name))
        if not all(name.lstrip("-").isdigit() for name in names):
            index = {name: i for i, name in enumerate(names)}
            return ClassCounts.from_labels([index[label] for label in labels]), names
        labels = [as_index(label, str(path)) for label in labels]
    class_counts = ClassCounts.from_labels(labels)
    return class_counts, [str(c) for c in range(len(class_counts))]


def _read_txt(path: Path, column: str) -> Any:
    return [line.split()[-1] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_csv(path: Path, column: str) -> Any:
    with open(path, newline="", encoding="utf-8-sig") as file:
        table = [row for row in csv.reader(file) if row]
    if not table:
        raise LongTailError(f"{path} is empty.")
    header, *rows = table
    if column.lstrip("-").isdigit():
        if not -len(header) <= int(column) < len(header):
            raise LongTailError(f"{path} has {len(header)} columns, there is no column {column}.")
        number = int(column) % len(header)
        # Without a name, a first row that is a number is data, not a header.
        rows = [header, *rows] if header[number].isdigit() else rows
    elif column in header:
        number = header.index(column)
    else:
        raise LongTailError(f"{path} has no column {column!r}. {did_you_mean(column, header)}")
    if cut := next((row for row in rows if len(row) != len(header)), None):
        raise LongTailError(f"{path} has {len(header)} columns, but the row {','.join(cut)!r} has {len(cut)}.")
    return [row[number] for row in rows]


def _read_npy(path: Path, column: str) -> Any:
    import numpy as np

    return np.load(path, mmap_mode="r", allow_pickle=False)  # a header may claim any size


def _read_pt(path: Path, column: str) -> Any:
    from longtail_lightning._torch_files import read_torch_file
    from longtail_lightning.datasets.read_npz import require_possible_zip

    require_possible_zip(path)
    return read_torch_file(path)


def _read_json(path: Path, column: str) -> Any:
    from longtail_lightning.datasets.read_text import parse_json

    return parse_json(path.read_text(encoding="utf-8"), path)
