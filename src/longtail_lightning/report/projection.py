"""Samples and what represents their classes, in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.report.plots import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = {"prototype": "*", "classifier": "s", "transfer": "P"}


def project(vectors: Tensor, *, how: Literal["pca", "umap"] = "pca") -> Tensor:
    """Directions of vectors in two dimensions.

    Args:
        vectors: `(N, F)`; scaled to norm 1 first, as cosines do.
        how: `"pca"`, or `"umap"` where the package umap-learn is installed.

    Examples:
        >>> project(torch.eye(3)).shape
        torch.Size([3, 2])
    """
    if vectors.ndim != 2 or min(vectors.shape) < 2:
        raise LongTailError(f"A projection needs at least two vectors of two numbers, got {tuple(vectors.shape)}.")
    directions = F.normalize(vectors.double(), dim=1)
    if how == "umap":
        try:
            umap = import_module("umap")
        except ImportError as error:
            raise LongTailError("how='umap' needs the package umap-learn: install it, or take 'pca'.") from error
        made = umap.UMAP(random_state=0, metric="cosine").fit_transform(directions.numpy())
        return torch.from_numpy(made).double()
    if how != "pca":
        raise LongTailError(f"Unknown how={how!r}: choose 'pca' or 'umap'.")
    centered = directions - directions.mean(0)
    axes: Tensor = torch.linalg.svd(centered, full_matrices=False).Vh[:2]
    # The sign of an axis means nothing: the largest number of each is positive, so that a plot is the same every time.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    placed: Tensor = centered @ axes.T
    return placed


def plot_projection(
    samples: Mapping[str, Tensor],
    representations: Mapping[str, Mapping[str, Tensor]],
    *,
    how: Literal["pca", "umap"] = "pca",
) -> Figure:
    """Samples of a few classes with their prototypes, learned and composed weights (figure 6 of Parisot et al., 2022).

    Args:
        samples: name of a class -> features, `(n, F)`.
        representations: what it is, such as `"prototype"`, `"classifier"` or `"transfer"` -> name of a class -> `(F,)`.
        how: see `project`.
    """
    from matplotlib import colormaps

    points, labels = [], []
    for name, features in samples.items():
        points.append(features)
        labels += [("", name)] * len(features)
    for kind, vectors in representations.items():
        points.append(torch.stack(list(vectors.values())))
        labels += [(kind, name) for name in vectors]
    places = project(torch.cat([part.float() for part in points]), how=how)
    figure, axes = _figure("Samples and what represents their classes", (6.5, 5.0))
    shades: Any = colormaps["tab10"]
    for number, name in enumerate(samples):
        rows = [i for i, label in enumerate(labels) if label == ("", name)]
        axes.scatter(*places[rows].T.numpy(), s=8, alpha=0.4, color=shades(number % 10), label=name)
        for kind in representations:
            rows = [i for i, label in enumerate(labels) if label == (kind, name)]
            mark = MARKS.get(kind, "D")
            axes.scatter(*places[rows].T.numpy(), s=110, marker=mark, color=shades(number % 10), edgecolors="black")
    for kind in representations:
        axes.scatter([], [], s=80, marker=MARKS.get(kind, "D"), color="white", edgecolors="black", label=kind)
    axes.legend(fontsize=8)
    axes.set(xticks=[], yticks=[])
    return figure
