"""How well a score tells pictures of known classes from pictures of others, and where to draw the line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.report.plots import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Rejection:
    """A line below which pictures count as pictures of no known class.

    Args:
        threshold: pictures with a lower score are rejected.
        kept: share of the pictures of known classes that stay.
        rejected: share of the others that is rejected; None without any.
        auroc: how often a picture of a known class has the higher score of two, one of each kind; None without others.
        curve: share of the others, and of the known ones, that are kept, for each line that can be drawn: the ROC.

    Examples:
        >>> Rejection(threshold=3.2, kept=0.95).rejected is None
        True
    """

    threshold: float
    kept: float
    rejected: float | None = None
    auroc: float | None = None
    curve: tuple[tuple[float, float], ...] = ()


def find_threshold(known: Tensor, unknown: Tensor | None = None, *, keep: float = 0.95) -> Rejection:
    """The highest line that keeps a share of the pictures of known classes.

    Args:
        known: scores of pictures of known classes, which the model was not trained on.
        unknown: scores of other pictures, to see how many are rejected; the line does not depend on them.
        keep: share of the known ones that stay.

    Examples:
        >>> found = find_threshold(torch.arange(1.0, 11.0), torch.tensor([0.5, 1.5, 9.5]), keep=0.9)
        >>> found.threshold, found.kept, round(found.rejected, 2), round(found.auroc, 2)
        (2.0, 0.9, 0.67, 0.67)
    """
    require_number("find_threshold", "keep", keep, 0, 1, above=True)
    known = _scores(known, "known")
    line = known[len(known) - max(1, math.ceil(round(keep * len(known), 9)))]
    kept = float((known >= line).double().mean())
    if unknown is None:
        return Rejection(float(line), kept)
    unknown = _scores(unknown, "other")
    # Of pairs with one of each kind: those where the known one is higher, and half of the equal ones.
    below, not_above = (torch.searchsorted(unknown, known, right=right).double() for right in (False, True))
    auroc = float((below + not_above).mean() / (2 * len(unknown)))
    lines = torch.unique(torch.cat([known, unknown])).flip(0)
    shares = [1 - torch.searchsorted(scores, lines).double() / len(scores) for scores in (unknown, known)]
    curve = ((0.0, 0.0), *zip(*(share.tolist() for share in shares)))
    return Rejection(float(line), kept, float((unknown < line).double().mean()), auroc, curve)


def plot_rejection(found: Rejection) -> Figure:
    """The ROC, with the line that was drawn.

    Args:
        found: with the scores of other pictures.
    """
    if found.rejected is None or found.auroc is None:
        raise LongTailError("Without pictures of other classes there is no curve to draw.")
    figure, axes = _figure("Pictures of known classes and others", (5.0, 5.0))
    axes.plot(*zip(*found.curve), color="#2a6f97", linewidth=1.8, label=f"area {found.auroc:.3f}")
    axes.plot([0, 1], [0, 1], color="#b0b0b0", linestyle=":", linewidth=1)
    axes.plot([1 - found.rejected], [found.kept], "o", color="#c8553d", label=f"scores from {found.threshold:.4g} on")
    axes.set(xlabel="others that are kept", ylabel="known ones that are kept", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(frameon=False, loc="lower right")
    return figure


def _scores(scores: Tensor, kind: str) -> Tensor:
    scores = torch.as_tensor(scores, dtype=torch.float64).flatten()
    if not len(scores) or not bool(scores.isfinite().all()):
        found = "NaN or infinity among them" if len(scores) else "none"
        raise LongTailError(f"A line needs finite scores of {kind} pictures, got {found}.")
    return scores.sort().values
