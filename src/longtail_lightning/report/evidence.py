"""Draw which items of a memory spoke for what a model said (appendix C of Long et al., 2022)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from longtail_lightning.report.plots import COLORS, _figure
from longtail_lightning.report.sheet import pixels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 8
_FOR, _AGAINST = COLORS["many"], COLORS["few"]


def plot_evidence(told: Sequence[Mapping[str, Any]], root: str | Path = ".") -> Figure:
    """A row for each picture: itself, its nearest items, its most frequent texts, and how near all of them are.

    Bars of the items tell by how much they spoke for the predicted class, or against it.

    Args:
        told: explanations, as `Explanation.as_dict` gives them; those with an error are left out.
        root: where the files of the pictures are.
    """
    rows = [row for row in told if row["error"] is None]
    figure, grid = _figure("", (13.0, 2.6 * len(rows) + 0.3), len(rows), 4, squeeze=False)
    for row, (picture, nearest, frequent, histogram) in zip(rows, grid):
        _picture(picture, row, Path(root))
        _nearest(nearest, row)
        _frequent(frequent, row)
        histogram.hist([item["score"] for item in row["items"]], bins=12, color="#b0b0b0")
        histogram.ticklabel_format(axis="x", useOffset=False)
        histogram.tick_params(labelsize=7)
    for axes, title in zip(grid[0], ("", "nearest items", "most frequent texts", "how near all items are")):
        axes.set_title("\n".join(filter(None, (axes.get_title(), title))), fontsize=9)
    return figure


def _picture(axes: Any, row: Mapping[str, Any], root: Path) -> None:
    axes.axis("off")
    if row["file"] is not None:
        axes.imshow(pixels_of(root / row["file"]))
    branches = [f"{name}: {row[name]}" for name in ("base", "retrieval") if row[name] is not None]
    lines = [f"{row['name']} ({row['probability']:.2f})", *branches]
    axes.text(0.5, -0.04, "\n".join(lines), fontsize=8, ha="center", va="top", transform=axes.transAxes)


def _nearest(axes: Any, row: Mapping[str, Any]) -> None:
    items = row["items"][:_SHOWN][::-1]
    amounts = [item["for_predicted"] for item in items]
    axes.barh(range(len(items)), amounts, color=[_FOR if amount >= 0 else _AGAINST for amount in amounts])
    labels = [f"{shorten(item['text'], 24, placeholder='...')} ({item['score']:.2f})" for item in items]
    axes.set_yticks(range(len(items)), labels, fontsize=7)
    axes.axvline(0, color="#444444", linewidth=0.6)
    axes.set_xlabel(f"adds to the logit of {row['name']}", fontsize=7)
    axes.tick_params(axis="x", labelsize=7)


def _frequent(axes: Any, row: Mapping[str, Any]) -> None:
    counts = Counter(item["text"] for item in row["items"]).most_common(_SHOWN)[::-1]
    bars = axes.barh(range(len(counts)), [count for _, count in counts], color="#b0b0b0")
    axes.bar_label(bars, fontsize=7, padding=2)
    axes.set_yticks(range(len(counts)), [shorten(text, 24, placeholder="...") for text, _ in counts], fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
