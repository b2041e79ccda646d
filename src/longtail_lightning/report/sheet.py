"""Pictures beside each other, with a line of text below each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from longtail_lightning.datasets.decode import UnreadableImageError, decode_image
from longtail_lightning.report.plots import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 6


def plot_pictures(pictures: Sequence[tuple[str | Path, str]], title: str) -> Figure:
    """Draw pictures; a gray tile stands for one that is not there.

    Args:
        pictures: file and text of each.
        title: of the sheet.
    """
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, grid = _figure(title, (1.9 * columns, 2.3 * rows + 0.4), rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        axes.axis("off")
        if place < len(pictures):
            file, text = pictures[place]
            axes.imshow(pixels_of(Path(file)))
            lines = [shorten(line, 26, placeholder="...") for line in text.splitlines()]
            axes.set_title("\n".join(lines), fontsize=8, y=-0.02, verticalalignment="top")
    return figure


def pixels_of(file: Path) -> np.ndarray:
    """`(height, width, 3)`: the pixels of a picture; a gray tile where there is none."""
    try:
        image: np.ndarray = decode_image(file).permute(1, 2, 0).numpy()
    except (UnreadableImageError, OSError):
        return np.full((64, 64, 3), 200, np.uint8)
    return image
