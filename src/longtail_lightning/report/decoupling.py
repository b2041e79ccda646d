"""Plots of decoupled training: accuracy per split and method, weight norms, accuracy over tau."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtail_lightning.counts import ClassCounts
from longtail_lightning.report.plots import COLORS
from longtail_lightning.report.tables import Row

_ALL = "#444444"


def plot_methods(rows: Sequence[Row], path: str | Path, *, title: str) -> None:
    """Bars of the accuracy on each split, one group per split and one bar per method (figure 1 of the paper).

    Args:
        rows: one evaluation each; the first is the baseline.
        path: where the PNG goes.
        title: title of the plot.
    """
    figure, axes = _figure(title, width=max(8.0, 1.5 * len(rows)))
    groups = [name for name in ("many", "medium", "few", "all") if any(getattr(row, name) is not None for row in rows)]
    width = 0.8 / len(rows)
    from matplotlib import colormaps

    shades = colormaps["viridis"]
    for i, row in enumerate(rows):
        values = [100 * (getattr(row, name) or 0.0) for name in groups]
        places = [group + (i - (len(rows) - 1) / 2) * width for group in range(len(groups))]
        color = "#b0b0b0" if i == 0 else shades(0.15 + 0.7 * (i - 1) / max(1, len(rows) - 2))
        bars = axes.bar(places, values, width=0.92 * width, color=color, label=row.name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(ylabel="accuracy (%)")
    axes.margins(y=0.1)
    axes.legend(frameon=False, ncols=min(5, len(rows)), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path, dpi=120)


def plot_weight_norms(norms: Mapping[str, Tensor], counts: ClassCounts, path: str | Path) -> None:
    """Norm of each class's weight vector, most training images first (figure 2, left).

    Args:
        norms: name of a classifier -> `(num_classes,)`.
        counts: training images per class.
        path: where the PNG goes.
    """
    figure, axes = _figure("Norm of the classifier weights")
    order = torch.argsort(counts.tensor, descending=True, stable=True)
    positions = range(len(order))
    images = axes.twinx()
    images.fill_between(positions, counts.tensor[order].tolist(), color="#dddddd", step="mid", linewidth=0)
    images.set(ylabel="training images", ylim=(0, None))
    images.spines[["top"]].set_visible(False)
    axes.set_zorder(images.get_zorder() + 1)
    axes.patch.set_visible(False)
    for i, (name, values) in enumerate(norms.items()):
        # Methods differ in scale; what counts is the course from head to tail.
        relative = values[order].double() / values.double().mean()
        axes.plot(positions, relative.tolist(), label=name, linewidth=1.4, color=f"C{i}")
    axes.set(xlabel="class, most training images first", ylabel="norm / mean norm", ylim=(0, None))
    axes.margins(x=0.01)
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path, dpi=120)


def plot_tau(table: Sequence[Mapping[str, float | None]], tau: float, path: str | Path, *, title: str) -> None:
    """Accuracy on each split over tau, with the chosen one marked (figure 2, right).

    Args:
        table: rows of `TauSelection.table`.
        tau: the chosen one.
        path: where the PNG goes.
        title: title of the plot.
    """
    figure, axes = _figure(title)
    taus = [row["tau"] for row in table]
    for name, color in {**COLORS, "all": _ALL}.items():
        values = [value for row in table if (value := row[name]) is not None]
        if len(values) < len(taus):
            continue  # a split without classes
        style: dict[str, Any] = {"linewidth": 2.4} if name == "all" else {"linewidth": 1.4}
        axes.plot(taus, [100 * value for value in values], color=color, label=name, marker=".", **style)
    axes.axvline(tau, color=_ALL, linestyle=":", linewidth=1)
    axes.annotate(f"chosen: {tau:g}", (tau, 0.95), xycoords=("data", "axes fraction"), xytext=(4, 0),
                  textcoords="offset points", fontsize=9)  # fmt: skip
    axes.set(xlabel="tau", ylabel="accuracy (%)", ylim=(0, None))
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path, dpi=120)


def _figure(title: str, width: float = 8.0) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.suptitle(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
