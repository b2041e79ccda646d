"""Write what a check found to be good as `path label` lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import write_text
from longtail_lightning.curation._splits import CheckedSplits
from longtail_lightning.curation.check import first_label
from longtail_lightning.curation.data_report import DataReport
from longtail_lightning.datasets.image_list import ImageList
from longtail_lightning.datasets.nested import innermost


def list_files(target: str, found: CheckedSplits) -> dict[str, Path]:
    """The files that `--fix TARGET` writes: `train_clean.txt` ... for `list`, else `TARGET`, `TARGET_val` ...

    Args:
        target: `"list"`, or a file ending in `.txt`.
        found: the splits.
    """
    if root_of(found) is None:
        raise LongTailError("--fix writes lists of image files, and these images are not in files of their own.")
    names = [*(part.split for part in found.parts), "classes"]
    if target == "list":
        return {name: Path(f"{name}_clean.txt") for name in names}
    path = Path(target)
    if path.suffix != ".txt":
        raise LongTailError(f"--fix {target}: write `--fix list`, or a file that ends in .txt.")
    return {name: path if name == names[0] else path.with_name(f"{path.stem}_{name}.txt") for name in names}


def refuse_existing(files: Sequence[Path]) -> None:
    """Refuse to overwrite a file."""
    if taken := [str(file) for file in files if file.exists()]:
        raise LongTailError(f"{taken[0]} exists already and is not overwritten: give another name with --fix FILE.txt.")


def root_of(found: CheckedSplits) -> Path | None:
    """The folder that the paths of all splits start from; None when items are no files."""
    roots = set()
    for part in found.parts:
        dataset, _ = innermost(part.dataset, 0)
        if not isinstance(dataset, ImageList):
            return None
        roots.add(dataset.root or Path())
    return roots.pop() if len(roots) == 1 else None


def write_lists(found: CheckedSplits, report: DataReport, files: dict[str, Path]) -> dict[str, int]:
    """Write the images that are kept, one list per split, and the names of the classes that are left.

    Classes without training images are left out, and the others are numbered anew if need be.

    Args:
        found: the splits, after a check.
        report: what the check found.
        files: a path for each split and for `"classes"`.

    Returns:
        Images per list.
    """
    if report.stopped:
        raise LongTailError(f"The check did not end ({report.stopped}): no list is written from a part of the images.")
    train = found.parts[0]
    classes = np.unique(train.labels[train.keep])
    first = first_label(found.parts, found.class_names)
    written: dict[str, int] = {}
    for part in found.parts:
        kept = np.flatnonzero(part.keep & np.isin(part.labels, classes))
        numbers = np.searchsorted(classes, part.labels[kept])
        lines = [_line(part.name(index), label) for index, label in zip(kept.tolist(), numbers.tolist())]
        lines = [line for line in lines if not set(line) & set("\n\r")]  # no list can hold such a name
        write_text(files[part.split], "\n".join(lines) + "\n")
        written[part.split] = len(lines)
    names = [report.class_names[label - first] for label in classes.tolist()]
    write_text(files["classes"], "\n".join(names) + "\n")
    return written


def _line(name: str, label: int) -> str:
    quoted = name != name.strip() or name[0] == '"' or name[-1] == ","
    return f'"{name}" {label}' if quoted else f"{name} {label}"
