"""What a data module does to a batch on its device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from inspect import signature
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from longtail_lightning import _lightning
from longtail_lightning._errors import LongTailError
from longtail_lightning._random import mix
from longtail_lightning.counts import ClassCounts
from longtail_lightning.datasets.batch_pipeline import BatchPipeline, first_items, take_apart
from longtail_lightning.datasets.image_transforms import ImageTransforms


class DeviceBatches(L.LightningDataModule):
    """Augments, normalizes and mixes the batches of a data module; the work itself is `BatchPipeline`'s."""

    transforms: ImageTransforms
    seed: int
    mixup_alpha: float
    cutmix_alpha: float
    with_index: bool
    _views: int | None = None  # how many views each training image has, where a run needs to know

    mean: Sequence[float] | None = None
    """Channel means of images in [0, 1]; with `std`, batches are normalized by them; those of `transforms` win."""
    std: Sequence[float] | None = None

    def augment_batch(self, images: Tensor, keys: np.ndarray) -> Tensor:
        """Random augmentation of a training batch, before scaling; that of `transforms` by default.

        Args:
            images: the batch on its device.
            keys: an int64 number for each image, a hash of (seed, view, place in the split): `crop_and_flip(images,
                keys)` and its like in `longtail_lightning.datasets.augment` treat an image the same in any batch.
                What is drawn from torch's global generator instead, as batch transforms of torchvision do, is the
                same whenever the batch is the same.
        """
        return self.transforms.augment(images, keys)

    @property
    @abstractmethod
    def class_counts(self) -> ClassCounts:
        """Images of each class in the training split."""

    @cached_property
    def _pipeline(self) -> BatchPipeline:
        """Augmentation, normalization and mixing of batches; made from the options when it is first asked for."""
        for owner, augment in ((self, self.augment_batch), (self.transforms, self.transforms.augment)):
            _require_keys(owner, augment)
        mixing = {"mixup_alpha": self.mixup_alpha, "cutmix_alpha": self.cutmix_alpha}
        num_classes = self.class_counts.num_classes if any(mixing.values()) else None
        return BatchPipeline(seed=self.seed, mean=self.mean, std=self.std, num_classes=num_classes, **mixing)

    def prepare_batch(self, images: Tensor, *, items: np.ndarray | None = None, augment: bool = False) -> Tensor:
        """Augment (when asked), scale to [0, 1] and normalize a batch on its device.

        Args:
            images: as the loader gives them.
            items: what the batch holds, as the loader says it; the first items of the split by default.
            augment: apply `augment_batch`.
        """
        if augment:
            items = first_items(len(images)) if items is None else items
            images = self._pipeline.augment(images, items, self.augment_batch)
        return self._pipeline.normalize(images)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment and mix (training only), scale to [0, 1], normalize, and say which items these are if asked."""
        trainer = self.trainer
        # Lightning has converted the batch for bf16-true and the like, while it was still uint8.
        convert = trainer.precision_plugin.convert_input if trainer else lambda images: images
        if isinstance(batch, Tensor) and not (trainer and trainer.training):
            return convert(self.prepare_batch(batch))
        images, target, extra, items = take_apart(batch, type(self).__name__)
        if trainer and trainer.training:
            if items is None:  # not our loader: draw by step, so that a repeated step repeats
                step = trainer.current_epoch, _lightning.training_batch(trainer), trainer.global_rank
                drawn = first_items(len(images), view=mix(*step))
            else:
                drawn = items
            images = self.prepare_batch(images, items=drawn, augment=True)
            images, target = self._pipeline.mix(images, target, drawn)
        else:
            images = self.prepare_batch(images, items=items)
        return [convert(images), target, *self._told(items, images.device), *extra]

    def show_views(self, views: int | None) -> None:
        """Let the next training show only so many augmentations of each image, and say which one a batch shows.

        Batches are `(images, labels, index, view)` then: `ordered_dataloader("train", augment=True, view=v)` shows the
        same images.

        Args:
            views: how many; None for a new one in each draw, as ever.
        """
        self._views = views

    def _told(self, items: np.ndarray | None, device: torch.device) -> list[Tensor]:
        """Places in the split and views, when they are asked for."""
        if self._views is not None and self.trainer and self.trainer.training:
            if items is None:
                raise LongTailError(
                    f"A loader of {type(self).__name__} does not say which items its batches hold: use those that the "
                    "data module makes."
                )
            return [torch.from_numpy(column.copy()).to(device, non_blocking=True) for column in items.T]
        return self._index(items, device)

    def _index(self, items: np.ndarray | None, device: torch.device) -> list[Tensor]:
        if items is None and self.with_index:
            raise LongTailError(
                f"with_index=True, but a loader of {type(self).__name__} does not say which items its batches hold: "
                "use those that the data module makes."
            )
        if items is None or not (self.with_index or (self.trainer and self.trainer.predicting)):
            return []
        return [torch.from_numpy(items[:, 0].copy()).to(device, non_blocking=True)]


def _require_keys(owner: object, augment: Callable[..., Any]) -> None:
    """Refuse an augmentation that does not take the keys of its images."""
    try:
        signature(augment).bind(None, None)
    except TypeError as error:
        name = f"{type(owner).__name__}.{augment.__name__}"
        raise LongTailError(
            f"{name}{signature(augment)} must take (images, keys): keys are a number for each image, from which "
            "crop_and_flip(images, keys) and its like draw."
        ) from error
