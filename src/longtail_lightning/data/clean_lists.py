"""Write what a check found to be good as `path label` lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from longtail_lightning._errors import LongTailError
from longtail_lightning.data.check import DataReport, Part, write_whole


def list_files(target: str, splits: Sequence[str]) -> dict[str, Path]:
    """The files that `--fix TARGET` writes: `train_clean.txt` ... for `list`, else `TARGET`, `TARGET_val` ...

    Args:
        target: `"list"`, or a file ending in `.txt`.
        splits: the splits there are.
    """
    if target == "list":
        return {split: Path(f"{split}_clean.txt") for split in (*splits, "classes")}
    path = Path(target)
    if path.suffix != ".txt":
        raise LongTailError(f"--fix {target}: write `--fix list`, or a file that ends in .txt.")
    return {split: path if split == splits[0] else path.with_stem(f"{path.stem}_{split}") for split in (*splits, "classes")}


def refuse_existing(files: Sequence[Path]) -> None:
    """Nothing of the user's is overwritten."""
    if taken := [str(file) for file in files if file.exists()]:
        raise LongTailError(f"{taken[0]} exists already and is not overwritten: give another name with --fix FILE.txt.")


def write_lists(parts: Sequence[Part], report: DataReport, files: dict[str, Path]) -> dict[str, int]:
    """Write the images that are kept, one list per split, and the names of the classes that are left.

    Classes without training images are left out, and the others are numbered anew if need be.

    Args:
        parts: the splits, after a check.
        report: what the check found.
        files: a path for each split and for `"classes"`.

    Returns:
        Images per list.
    """
    if report.stopped:
        raise LongTailError(f"The check did not end ({report.stopped}): no list is written from a part of the images.")
    train = parts[0]
    first = min(int(part.labels.min()) for part in parts) if report.count("start") else 0
    classes = np.unique(train.labels[train.keep])
    written: dict[str, int] = {}
    for part in parts:
        kept = np.flatnonzero(part.keep & np.isin(part.labels, classes))
        numbers = np.searchsorted(classes, part.labels[kept])
        lines = [_line(part.name(index), label) for index, label in zip(kept.tolist(), numbers.tolist())]
        lines = [line for line in lines if "\n" not in line and "\r" not in line]
        write_whole(files[part.split], "\n".join(lines))
        written[part.split] = len(lines)
    write_whole(files["classes"], "\n".join(report.class_names[label - first] for label in classes.tolist()))
    return written


def _line(name: str, label: int) -> str:
    quoted = name != name.strip() or name[0] == '"' or name[-1] == ","
    return f'"{name}" {label}' if quoted else f"{name} {label}"
