"""Draw the training images that are nearest to test images, as several encoders see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning._random import generator
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.features import extract_features
from longtail_lightning.report.plots import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAME, _OTHER = "#2e8b57", "#c0392b"


def plot_neighbors(
    data: LongTailDataModule,
    encoders: Mapping[str, nn.Module],
    *,
    items: Sequence[int] | None = None,
    k: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> Figure:
    """A row for each test image and encoder: the image, and its nearest training images, framed green or red.

    Green frames tell those of the image's own class (figure 4 of Iscen et al., 2021). Cosines decide what is near.

    Args:
        data: of the images.
        encoders: name of each -> module from images to features, such as `model.backbone`.
        items: which test images, by their place in the split; by default two of many-, medium- and few-shot classes.
        k: how many neighbors.
        seed: which test images are drawn.
        progress: show progress bars.
    """
    require_whole("plot_neighbors", "k", k, 1)
    if not encoders:
        raise LongTailError("There is no encoder: name one or more, {'student': model.backbone}.")
    labels = {split: data.labels(split) for split in ("train", "test")}  # type: ignore[arg-type]
    if k > len(labels["train"]):
        raise LongTailError(f"k={k}, but there are {len(labels['train'])} training images: ask for fewer.")
    chosen = _drawn(data, labels["test"], seed) if items is None else list(items)
    if wrong := [item for item in chosen if not 0 <= item < len(labels["test"])]:
        raise LongTailError(f"items: there is no test image {wrong[0]}, they are 0 to {len(labels['test']) - 1}.")
    found = {name: _nearest(data, encoder, chosen, k, progress) for name, encoder in encoders.items()}
    rows = len(chosen) * len(encoders)
    figure, grid = _figure("", (1.5 * (k + 1) + 0.5, 1.75 * rows), rows, k + 1, squeeze=False)
    for place, item in enumerate(chosen):
        label = int(labels["test"][item])
        for number, (name, neighbors) in enumerate(found.items()):
            first, *others = grid[place * len(encoders) + number]
            _draw(first, data, "test", item, f"{_named(data, label)}\n{data.class_counts[label]} images", None)
            first.text(-0.08, 0.5, name, rotation=90, va="center", ha="right", fontsize=9, transform=first.transAxes)
            for axes, neighbor in zip(others, neighbors[place].tolist()):
                of = int(labels["train"][neighbor])
                _draw(axes, data, "train", neighbor, _named(data, of), _SAME if of == label else _OTHER)
    return figure


def _drawn(data: LongTailDataModule, labels: Tensor, seed: int) -> list[int]:
    """Two test images of each split of classes that has some."""
    chosen: list[int] = []
    for _, classes in data.class_counts.shots():
        own = torch.isin(labels, classes).nonzero().flatten()
        chosen += own[torch.randperm(len(own), generator=generator(seed, len(chosen)))[:2]].tolist()
    return chosen


def _nearest(data: LongTailDataModule, encoder: nn.Module, items: Sequence[int], k: int, progress: bool) -> Tensor:
    """`(items, k)`: places of training images."""
    banks = [extract_features(encoder, data, split=split, progress=progress) for split in ("train", "test")]
    train, test = (F.normalize(bank.features.float(), dim=1) for bank in banks)
    return (test[list(items)] @ train.T).topk(k, dim=1).indices


def _named(data: LongTailDataModule, label: int) -> str:
    return shorten(data.class_names[label], 20, placeholder="...")


def _draw(axes: Any, data: LongTailDataModule, split: Any, item: int, text: str, frame: str | None) -> None:
    pixels = data.dataset(split)[item][0]  # type: ignore[index]
    axes.imshow(pixels.permute(1, 2, 0).numpy(), cmap="gray")
    axes.set(xticks=[], yticks=[])
    axes.set_title(text, fontsize=7, y=-0.04, verticalalignment="top")
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=3)
