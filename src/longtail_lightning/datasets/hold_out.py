"""The names of the splits, and how part of a training set is held out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import generator

Split = Literal["train", "val", "test"]


def hold_out(labels: Tensor, fraction: float, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split indices into training and validation, the same fraction of each class.

    A class with a single image keeps it for training; any other class gives at least one image and
    keeps at least one.

    Args:
        labels: class index of each item.
        fraction: share of each class to hold out, between 0 and 1.
        seed: which images are held out.

    Returns:
        Sorted training and validation indices.

    Examples:
        >>> train, val = hold_out(torch.tensor([0] * 10 + [1] * 2 + [2]), 0.2)
        >>> torch.tensor([0] * 10 + [1] * 2 + [2])[val].tolist(), len(train)
        ([0, 0, 1], 10)
    """
    if not 0.0 < fraction < 1.0:
        raise LongTailError(f"val_split={fraction} must lie between 0 and 1: the share of each class to hold out.")
    held: list[Tensor] = []
    shuffled = torch.randperm(len(labels), generator=generator(seed, len(labels)))
    # A stable sort of shuffled labels keeps the random order inside each class.
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    sizes = torch.bincount(labels)
    for first, size in zip((sizes.cumsum(0) - sizes).tolist(), sizes.tolist()):
        if size >= 2:
            take = min(max(1, round(size * fraction)), size - 1)
            held.append(by_class[first : first + take])
    if not held:
        raise LongTailError("val_split cannot hold out anything: every class has a single image; set val_split=0.")
    val = torch.cat(held).sort().values
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[val] = False
    return keep.nonzero().flatten(), val
