"""Plots of comparisons, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning.counts import ClassCounts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from longtail_lightning.report.comparison import Comparison

COLORS = {"many": "#2a6f97", "medium": "#e09f3e", "few": "#c8553d"}
_ALL = "#444444"


def plot_classes(comparison: Comparison) -> Figure:
    """Bars of the accuracy of each class, largest class first, over the number of training images.

    Args:
        comparison: the last row is drawn as bars, the others as dots.
    """
    counts, names = comparison.class_counts, comparison.splits.names()
    order = torch.argsort(counts.tensor, descending=True, stable=True)
    (shown, per_class), *others = list(comparison.per_class.items())[::-1]
    figure, (upper, lower) = _figure(f"{comparison.title}, {shown}", (9, 5), 2, 1, sharex=True, height_ratios=(3, 1))
    positions = torch.arange(len(order))
    for group, color in COLORS.items():
        mask = torch.tensor([names[c] == group for c in order.tolist()])
        if not bool(mask.any()):
            continue
        values = 100 * per_class[order][mask]
        label = f"{group}: {float(values.nanmean()):.1f} %"
        upper.bar(positions[mask].numpy(), values.nan_to_num().numpy(), width=0.9, color=color, label=label)
        lower.bar(positions[mask].numpy(), counts.tensor[order][mask].numpy(), width=0.9, color=color)
    for name, values in others:
        upper.plot(positions.numpy(), (100 * values[order]).numpy(), ".", color="black", markersize=4, label=name)
    upper.set(ylabel="accuracy (%)", ylim=(0, 100))
    _legend(upper, 4)
    lower.set(ylabel="training\nimages", xlabel="class, most training images first", yscale="log")
    lower.margins(x=0.01)
    return figure


def plot_rows(comparison: Comparison) -> Figure:
    """Bars of the accuracy on each split, one group per split and one bar per row (figure 1 of Kang et al., 2020).

    Args:
        comparison: the first row is the baseline.
    """
    from matplotlib import colormaps

    rows, shades = comparison.rows, colormaps["viridis"]
    figure, axes = _figure(comparison.title, (max(8.0, 1.5 * len(rows)), 4.5))
    groups = [name for name in (*COLORS, "all") if any(getattr(row, name) is not None for row in rows)]
    width = 0.8 / len(rows)
    for i, row in enumerate(rows):
        values = [100 * (getattr(row, name) or 0.0) for name in groups]
        places = [group + (i - (len(rows) - 1) / 2) * width for group in range(len(groups))]
        color = "#b0b0b0" if i == 0 else shades(0.15 + 0.7 * (i - 1) / max(1, len(rows) - 2))
        bars = axes.bar(places, values, width=0.92 * width, color=color, label=row.name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(ylabel="accuracy (%)")
    axes.margins(y=0.1)
    _legend(axes, min(5, len(rows)))
    return figure


def plot_shares(shares: Sequence[tuple[str, float]], title: str) -> Figure:
    """Bars of the shares of some classes, largest first (figure 9 of Parisot et al., 2022).

    Args:
        shares: name and share of each.
        title: of the plot.
    """
    figure, axes = _figure(title, (6.0, 0.6 + 0.32 * len(shares)))
    names, values = zip(*reversed(shares))
    bars = axes.barh(range(len(names)), values, color=COLORS["many"])
    axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="share of the knowledge")
    axes.margins(x=0.12)
    return figure


def plot_moving_averages(comparison: Comparison, window: int = 20) -> Figure:
    """Accuracy over the classes, most training images first, averaged over neighbors (figure 2 of Long et al., 2022).

    Args:
        comparison: each of its rows is a curve; the dots are the classes.
        window: how many classes a point of a curve is the mean of.
    """
    figure, axes = _figure(comparison.title)
    order = torch.argsort(comparison.class_counts.tensor, descending=True, stable=True)
    for i, (name, values) in enumerate(comparison.per_class.items()):
        percent = 100 * values[order].double()
        windows = F.pad(percent, (window // 2, (window - 1) // 2), value=torch.nan).unfold(0, window, 1)
        places = range(len(percent))
        axes.plot(places, percent.tolist(), ".", color=f"C{i}", markersize=3, alpha=0.35)
        axes.plot(places, windows.nanmean(1).tolist(), color=f"C{i}", label=name, linewidth=1.8)
    names = comparison.splits.names()
    for place in range(1, len(order)):
        if names[order[place]] != names[order[place - 1]]:
            axes.axvline(place - 0.5, color=_ALL, linestyle=":", linewidth=1)
    axes.set(xlabel="class, most training images first", ylabel="accuracy (%)", ylim=(0, 100))
    axes.margins(x=0.01)
    _legend(axes, 4)
    return figure


def plot_weight_norms(norms: Mapping[str, Tensor], counts: ClassCounts) -> Figure:
    """Norm of each class's weight vector, most training images first (figure 2 of Kang et al., 2020, left).

    Args:
        norms: name of a classifier -> `(num_classes,)`.
        counts: training images per class.
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
        # Methods differ in scale; the shape from frequent to rare classes is what matters.
        relative = values[order].double() / values.double().mean()
        axes.plot(positions, relative.tolist(), label=name, linewidth=1.4, color=f"C{i}")
    axes.set(xlabel="class, most training images first", ylabel="norm / mean norm", ylim=(0, None))
    axes.margins(x=0.01)
    _legend(axes, 4)
    return figure


def plot_curve(curve: Mapping[str, Any], title: str) -> Figure:
    """Accuracy on each split over a value that was tried, with the chosen one marked.

    Args:
        curve: `{"x": "tau", "chosen": 0.7, "rows": [{"tau": 0.0, "many": 0.9, ..., "all": 0.5}, ...]}`.
        title: title of the plot.
    """
    figure, axes = _figure(title)
    x, rows = curve["x"], curve["rows"]
    for name, color in {**COLORS, "all": _ALL}.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        if len(values) == len(rows):  # a split without classes has none
            width = 2.4 if name == "all" else 1.4
            percent = [100 * value for value in values]
            axes.plot([row[x] for row in rows], percent, color=color, label=name, marker=".", linewidth=width)
    axes.axvline(curve["chosen"], color=_ALL, linestyle=":", linewidth=1)
    axes.annotate(f"chosen: {curve['chosen']:g}", (curve["chosen"], 0.95), xycoords=("data", "axes fraction"),
                  xytext=(4, 0), textcoords="offset points", fontsize=9)  # fmt: skip
    axes.set(xlabel=x, ylabel="accuracy (%)", ylim=(0, None))
    _legend(axes, 4)
    return figure


def _figure(title: str, size: tuple[float, float] = (8.0, 4.5), *grid: int, **options: Any) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(*grid, **options)
    figure.suptitle(title)
    for one in figure.axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Any, columns: int) -> None:
    axes.legend(frameon=False, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0))
