"""Match a trained model's classes with those of the data to evaluate on; the model's classes win."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.cli._checkpoints import Saved
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data import LongTailDataModule


def place_of_classes(names: Sequence[str] | None, counts: Sized | None, data: LongTailDataModule) -> Tensor | None:
    """Where a model has each class of the data, matched by name; None when the two agree.

    Args:
        names: of the model's classes, as far as it knows them.
        counts: training images of each of them, likewise.
        data: what it will be evaluated on.
    """
    own = list(data.class_names)
    if counts is None or (names is not None and list(names) == own):
        return None
    numbers = [str(place) for place in range(len(counts))]  # what a class without a name is called
    if names is None or len(set(names)) < len(names) or len(set(own)) < len(own) or numbers in (own, list(names)):
        if len(own) != len(counts):
            raise LongTailError(
                f"The model of --ckpt_path has {len(counts)} classes and the data have {len(own)}, and it is not known "
                "which is which: give the data that the model was trained for."
            )
        return None
    if unknown := [name for name in own if name not in names]:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise LongTailError(
            f"The data have the class {unknown[0]!r}{more}, which the model of --ckpt_path does not know: leave its "
            f"images out, or give data of the model's classes."
        )
    place = {name: i for i, name in enumerate(names)}
    return torch.tensor([place[name] for name in own])


def take_classes_of(saved: Saved, data: LongTailDataModule) -> None:
    """Give the data the model's classes: labels of batches, names and counts."""
    place = place_of_classes(saved.class_names, saved.class_counts, data)
    if place is None:
        return
    spoken: dict[str, Any] = {
        "on_after_batch_transfer": partial(_relabeled, data.on_after_batch_transfer, place),
        "labels": partial(_labels, data.labels, place),
        "class_names": saved.class_names,
        "class_counts": ClassCounts(saved.class_counts or ()),
    }
    for name, value in spoken.items():
        setattr(data, name, value)


def _labels(own: Any, place: Tensor, split: Any) -> Tensor:
    return place[own(split)]


def _relabeled(hook: Any, place: Tensor, batch: Any, dataloader_idx: int) -> Any:
    batch = hook(batch, dataloader_idx)
    if not isinstance(batch, (list, tuple)) or len(batch) < 2:
        return batch
    images, labels, *rest = batch
    return (images, place.to(labels.device)[labels], *rest)
