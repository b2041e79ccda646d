"""Plots, drawn without a display."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from longtail_lightning.counts import ClassCounts, ShotSplits

COLORS = {"many": "#2a6f97", "medium": "#e09f3e", "few": "#c8553d"}


def plot_per_class_accuracy(
    results: dict[str, Tensor], counts: ClassCounts, splits: ShotSplits, path: str | Path, *, title: str
) -> None:
    """Bars of the accuracy of each class, largest class first, over the number of training images.

    Args:
        results: name of an evaluation -> per-class accuracy; the last one is drawn as bars, the others as lines.
        counts: training images per class.
        splits: which classes are many-, medium- and few-shot.
        path: where the PNG goes.
        title: title of the plot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = torch.argsort(counts.tensor, descending=True, stable=True)
    names = splits.names()
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    (shown, per_class), *others = list(results.items())[::-1]
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
    figure.suptitle(f"{title}, {shown}")
    upper.set(ylabel="accuracy (%)", ylim=(0, 100))
    upper.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    lower.set(ylabel="training\nimages", xlabel="class, most training images first", yscale="log")
    lower.margins(x=0.01)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
