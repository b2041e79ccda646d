"""`ltl counts`: the class counts of a data module or a labels file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.counts import ClassCounts
from longtail_lightning.report.tables import print_class_counts

HELP = """\
usage: ltl counts --data CLASS [--data.OPTION VALUE ...]
       ltl counts --config FILE_OR_RECIPE
       ltl counts FILE [--column NAME_OR_NUMBER]

Counts training images per class, from labels only. FILE holds labels: .txt with one label per line
(or `path label`), .csv with a column of labels, .npy, .pt, or .json with a list.

  --column  column of a .csv: its name or number, the last one by default
  --many    classes with more images are many-shot (default 100)
  --few     classes with fewer images are few-shot (default 20)
"""


def counts(args: list[str]) -> int:
    """Print a table per split and a histogram."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    options = {"--column": "-1", "--many": "100", "--few": "20"}
    rest: list[str] = []
    words = [part for arg in args for part in (arg.split("=", 1) if arg.split("=")[0] in options else [arg])]
    while words:
        word = words.pop(0)
        if word in options:
            if not words:
                raise LongTailError(f"{word} needs a value.")
            options[word] = words.pop(0)
        else:
            rest.append(word)
    if any(word.startswith("-") for word in rest):
        class_counts, names = _of_datamodule(rest)
    elif len(rest) == 1:
        class_counts, names = _of_file(Path(rest[0]), options["--column"])
    else:
        raise LongTailError("`ltl counts` takes one labels file, or --data; see `ltl counts --help`.")
    bounds = {flag.removeprefix("--"): options[flag] for flag in ("--many", "--few")}
    if wrong := [value for value in bounds.values() if not value.isdigit()]:
        raise LongTailError(f"--many and --few are numbers of images, got {wrong[0]!r}.")
    print_class_counts(class_counts, names, **{name: int(value) for name, value in bounds.items()})
    return 0


def _of_datamodule(args: list[str]) -> tuple[ClassCounts, list[str]]:
    from longtail_lightning.cli.app import instantiate_data

    datamodule = instantiate_data(args)
    return datamodule.class_counts, datamodule.class_names


def _of_file(path: Path, column: str) -> tuple[ClassCounts, list[str]]:
    if not path.is_file():
        raise LongTailError(f"`ltl counts {path}`: there is no such file; for a data module write --data CLASS.")
    readers = {".txt": _read_txt, ".csv": _read_csv, ".npy": _read_npy, ".pt": _read_pt, ".json": _read_json}
    if path.suffix not in readers:
        raise LongTailError(f"{path}: labels are read from {', '.join(readers)}.")
    labels = readers[path.suffix](path, column)
    if len(labels) and isinstance(labels[0], str):
        names = sorted(set(labels), key=lambda name: (not name.lstrip("-").isdigit(), name))
        if not all(name.lstrip("-").isdigit() for name in names):
            index = {name: i for i, name in enumerate(names)}
            return ClassCounts.from_labels([index[label] for label in labels]), names
        labels = [int(label) for label in labels]
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
        number = int(column)
        if not -len(header) <= number < len(header):
            raise LongTailError(f"{path} has {len(header)} columns, there is no column {column}.")
        # Without a name, a first row that is a number is data, not a header.
        rows = [header, *rows] if header[number].isdigit() else rows
    elif column in header:
        number = header.index(column)
    else:
        raise LongTailError(f"{path} has no column {column!r}. {did_you_mean(column, header)}")
    return [row[number] for row in rows if row]


def _read_npy(path: Path, column: str) -> Any:
    import numpy as np

    return np.load(path)


def _read_pt(path: Path, column: str) -> Any:
    import torch

    return torch.load(path, weights_only=True)


def _read_json(path: Path, column: str) -> Any:
    labels = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(labels, list):
        raise LongTailError(f"{path} holds a {type(labels).__name__}, expected a list with one label per image.")
    return labels
