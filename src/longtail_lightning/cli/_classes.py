"""A trained model's classes against those of the data that it shall be evaluated on: the model's win."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.cli._checkpoints import Saved
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data import LongTailDataModule


def place_of_classes(saved: Saved, data: LongTailDataModule) -> Tensor | None:
    """Where the model has each class of the data, matched by name; None when the two agree."""
    if saved.class_counts is None:
        return None
    own, names = list(data.class_names), saved.class_names
    if names is None or len(set(names)) < len(names) or len(set(own)) < len(own):
        if len(own) != len(saved.class_counts):
            raise LongTailError(
                f"The model of --ckpt_path has {len(saved.class_counts)} classes and the data have {len(own)}, and "
                "they do not tell which is which: give the data that the model was trained for."
            )
        return None
    if own == names:
        return None
    if unknown := [name for name in own if name not in names]:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise LongTailError(
            f"The data have the class {unknown[0]!r}{more}, which the model of --ckpt_path does not know: leave its "
            f"images out, or give data of the model's classes. {did_you_mean(unknown[0], names[:20])}"
        )
    return torch.tensor([names.index(name) for name in own])


def take_classes_of(saved: Saved, data: LongTailDataModule) -> None:
    """Let the data speak of the model's classes: labels of batches, names and counts."""
    place = place_of_classes(saved, data)
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
