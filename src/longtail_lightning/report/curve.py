"""Accuracy over a value that was tried, such as tau: a comparison with one row per value."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from longtail_lightning.counts import ClassCounts, ShotSplits
from longtail_lightning.report.comparison import Comparison, Files, averaged, values_of
from longtail_lightning.report.plots import plot_curve


class CurveComparison(Comparison):
    """One evaluation for each value of a curve, as the details of a method hold it.

    Args:
        curve: `{"x": "tau", "chosen": 0.7, "split": "val", "rows": [{"tau": 0.0, "per_class": [...]}, ...]}`.
        class_counts: training images per class.
        splits: which classes are many-, medium- and few-shot.
    """

    def __init__(self, curve: Mapping[str, Any], class_counts: ClassCounts, splits: ShotSplits) -> None:
        self.curve = averaged({"curve": curve}, splits)["curve"]
        self.x, self.chosen = curve["x"], curve["chosen"]
        per_class = {
            f"{row[self.x]:g}{', best' if row[self.x] == self.chosen else ''}": values_of(row) for row in curve["rows"]
        }
        super().__init__(curve_title(curve), per_class, class_counts, splits)

    def record(self) -> dict[str, Any]:
        """The chosen value, and one row per value that was tried."""
        return {self.x: self.chosen, "split": self.curve.get("split"), "rows": self.curve["rows"]}

    def save_all(self, folder: str | Path, name: str, *, plot: bool = True, **more: Any) -> dict[str, str]:
        """Write the record to `name`.json and draw the curve in `name`.png.

        Args:
            folder: where the files go.
            name: their name, without the ending.
            plot: whether to draw.
            more: further values of the record.
        """
        files: Files = {f"{self.x}_sweep": f"{name}.json"}
        if plot:
            files[f"{self.x}_plot"] = (f"{name}.png", partial(plot_curve, self.curve, self.title))
        return self.save(folder, files, **more)


def curve_title(curve: Mapping[str, Any]) -> str:
    """Title of its table and of its plot."""
    split = {"val": "Validation accuracy", "train": "Training accuracy"}.get(curve.get("split", ""), "Accuracy")
    return f"{split} over {curve['x']}"
