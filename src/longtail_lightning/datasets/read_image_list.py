"""Read text files that list images, `path label` per line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.read_text import as_index, read_text, short_lines, shown


def read_image_list(file: Path) -> tuple[list[str], np.ndarray]:
    """Paths and labels of a list."""
    files, labels = [], []
    for number, line in enumerate(short_lines(read_text(file), file, keep_empty=True), start=1):
        if not line:
            continue
        match = _LINE.match(line)
        if match is None:
            kind = "CSVLT reads tables with a header and labels that are names" if number == 1 else "correct the line"
            raise LongTailError(
                f"{file.name}, line {number}: {shown(line[:80])!r} is not `path label` with a whole number "
                f"as the label; {kind}."
            )
        path = match["path"]
        files.append(path[1:-1] if path[0] == path[-1] == '"' else path)
        labels.append(as_index(match["label"], f"{file.name}, line {number}"))
    if not files:
        raise LongTailError(f"{file.name} is empty, expected one `path label` per line.")
    return files, np.array(labels)


_LINE = re.compile(r"(?P<path>\S.*?)(?:\s*,\s*|\s+)(?P<label>-?\d+)$")
