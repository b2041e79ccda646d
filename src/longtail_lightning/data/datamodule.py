"""The data module that all others extend by answering one question: which data set is this split?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data._device_batches import DeviceBatches
from longtail_lightning.data._resume import ResumableData
from longtail_lightning.data._splits import Splits
from longtail_lightning.data.options import SamplerCallable as SamplerCallable
from longtail_lightning.datasets.array_images import ResidentImages
from longtail_lightning.datasets.hold_out import Split as Split
from longtail_lightning.datasets.image_transforms import ImageTransforms
from longtail_lightning.datasets.loader import ResumableLoader
from longtail_lightning.datasets.loading_process import one_thread
from longtail_lightning.datasets.long_tail import Draw, Profile
from longtail_lightning.datasets.nested import item_name
from longtail_lightning.datasets.presets import TransformsLike, as_transforms
from longtail_lightning.datasets.seeded_dataset import SeededDataset
from longtail_lightning.features._arguments import made
from longtail_lightning.samplers import EvaluationSampler, InstanceBalancedSampler, LongTailSampler


class LongTailDataModule(ResumableData, DeviceBatches, ABC):
    """Base of all data modules: class counts, samplers, held-out validation, batch augmentation.

    A child answers `build(split)`; the rest follows. Items are `(image, label)`, images plain:
    `transforms` say what training and evaluation do to them. Images may stay uint8: they are
    augmented, scaled and normalized as whole batches after the transfer to the device. How an item is
    augmented is a function of (seed, view, place in the split) alone: not of its batch, nor of the number of
    processes, so a resumed run repeats an uninterrupted one. Mixup and cutmix draw once per batch.

    Loaders give `[images, labels, items]`, where items is an int64 numpy array `(batch, 2)`: place in the split and
    view. What reaches the module is `(images, labels)`, in prediction `(images, labels, index)`.

    Args:
        transforms: what training and evaluation do to images: `ResizedCropTransforms(...)`, or the name of a preset
            such as `"imagenet"`; nothing when None.
        batch_size: images per batch and process.
        num_workers: processes that load images.
        sampler: from labels to training sampler, for example `ClassBalancedSampler`; instance-balanced when None.
        val_split: share of each training class to hold out, when `build("val")` gives none.
        imbalance_factor: make the training set long-tailed, see `long_tail_indices`; None takes all of it.
        profile: shape of that tail: `"exp"`, `"step"`, `"pareto"`, or images per class.
        max_count: images of its class 0; the mean class size when None.
        subset_draw: whether the subset keeps `"random"` images of each class or its `"first"` ones.
        subset_seed: which random images it keeps.
        on_error: what training does at an image that cannot be decoded: `"raise"`, or `"skip"` to take
            another one of its class and name the file at the end of the epoch. Evaluation always raises.
        device_resident: keep all images on the trainer's device and gather batches there; for data sets
            with a method `to(device)`, such as `ArrayImages`.
        seed: seed of order, split and augmentation; a sampler that is given a seed of its own keeps it.
        mixup_alpha: strength of mixup (Zhang et al. 2018), 0 for none.
        cutmix_alpha: strength of cutmix (Yun et al. 2019), 0 for none; with both, a batch gets one of them.
        with_index: give batches as `(images, labels, index)`, places in the split, in training and evaluation, too.

    Examples:
        >>> from torch.utils.data import TensorDataset
        >>> class Mine(LongTailDataModule):
        ...     def build(self, split):
        ...         return TensorDataset(torch.zeros(9, 3, 8, 8), torch.tensor([0] * 6 + [1] * 3))
        >>> Mine(val_split=0.34).class_counts
        ClassCounts([6, 3])
    """

    def __init__(
        self,
        *,
        transforms: TransformsLike | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        sampler: SamplerCallable | None = None,
        val_split: float = 0.0,
        imbalance_factor: float | None = None,
        profile: Profile = "exp",
        max_count: int | None = None,
        subset_draw: Draw = "random",
        subset_seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        device_resident: bool = False,
        seed: int = 0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        with_index: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise LongTailError(f"batch_size={batch_size} must be at least 1.")
        if on_error not in ("raise", "skip"):
            raise LongTailError(f"on_error={on_error!r}: choose 'raise' or 'skip'.")
        if device_resident and num_workers:
            raise LongTailError(f"device_resident=True loads nothing: set num_workers=0 (it is {num_workers}).")
        if min(mixup_alpha, cutmix_alpha) < 0:
            raise LongTailError(
                f"mixup_alpha={mixup_alpha}, cutmix_alpha={cutmix_alpha}: neither can be negative, 0 turns it off."
            )
        if imbalance_factor is None and isinstance(profile, str) and profile != "exp":
            raise LongTailError(f"profile={profile!r} does nothing without imbalance_factor: give both.")
        self.transforms = as_transforms(transforms) if transforms is not None else ImageTransforms()
        if self.transforms.mean is not None:
            self.mean, self.std = self.transforms.mean, self.transforms.std
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.sampler = sampler
        self.val_split = val_split
        self.imbalance_factor = imbalance_factor
        self.profile = profile
        self.max_count = max_count
        self.subset_draw = subset_draw
        self.subset_seed = subset_seed
        self.on_error = on_error
        self.device_resident = device_resident
        self.seed = seed
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.with_index = with_index

    # -- what a child answers --------------------------------------------------------------------

    @abstractmethod
    def build(self, split: Split) -> Dataset[Any] | None:
        """The data set of a split, or None when there is none; its labels must be known to `labels_of`.

        Asked once per split. Its images are plain: with `val_split`, held-out images come from the
        data set of "train", and `transforms` treat them as evaluation images.
        """

    def build_class_names(self) -> list[str]:
        """One name per class; the numbers by default."""
        return [str(c) for c in range(self.class_counts.num_classes)]

    def item_name(self, index: int, split: Split = "test") -> str:
        """What predictions and banks call an item of a split: its file, or its index when there is none."""
        return item_name(self.dataset(split), index)

    def subset_name(self) -> str:
        """What a long-tailed subset of the training set is called, without the shape of its tail."""
        return type(self).__name__

    # -- which items a split has -----------------------------------------------------------------

    @cached_property
    def _splits(self) -> Splits:
        """The data sets of the splits; made from the options when it is first asked for."""
        return Splits(
            self.build,
            owner=type(self).__name__,
            val_split=self.val_split,
            seed=self.seed,
            imbalance_factor=self.imbalance_factor,
            profile=self.profile,
            max_count=self.max_count,
            subset_draw=self.subset_draw,
            subset_seed=self.subset_seed,
            subset_name=self.subset_name,
        )

    @cached_property
    def class_counts(self) -> ClassCounts:
        """Images of each class in the training split, from labels only; available before `setup`."""
        return self._splits.class_counts(self.num_classes)

    @cached_property
    def class_names(self) -> list[str]:
        """One name per class."""
        return self.build_class_names()

    @property
    def num_classes(self) -> int | None:
        """Number of classes, when the data say more than the largest training label; None otherwise."""
        return None

    def labels(self, split: Split) -> Tensor:
        """Class index of each item of a split."""
        return self._splits.labels(split)

    def dataset(self, split: Split) -> Dataset[Any] | None:
        """The data set of a split, after holding out the validation images; built once."""
        return self._splits.dataset(split)

    # -- loaders ---------------------------------------------------------------------------------

    def train_dataloader(self) -> ResumableLoader:
        """Training batches in the order of the sampler."""
        dataset, labels = self._splits.require("train"), self.labels("train")
        sampler = made("sampler", self.sampler, labels) if self.sampler is not None else InstanceBalancedSampler(labels)
        if isinstance(sampler, LongTailSampler):
            sampler.seed = sampler.seed or self.seed
        return self.resumed(self._loader(dataset, sampler, view=None, augment=True, on_error=self.on_error))

    def val_dataloader(self) -> ResumableLoader | list[Any]:
        """Validation batches, each image once over all processes."""
        return self._evaluation("val")

    def test_dataloader(self) -> ResumableLoader | list[Any]:
        """Test batches, each image once over all processes."""
        loader = self._evaluation("test")
        self._check_test_classes()
        return loader

    def predict_dataloader(self) -> ResumableLoader | list[Any]:
        """The test split."""
        return self._evaluation("test")

    def _evaluation(self, split: Split) -> ResumableLoader | list[Any]:
        dataset = self.dataset(split)
        if dataset is None:
            return []
        world_size = self.trainer.world_size if self.trainer else 1
        if (size := len(dataset)) < world_size:  # type: ignore[arg-type]
            raise LongTailError(
                f"The {split} split has {size} images for {world_size} processes: use fewer devices, or more images."
            )
        return self._loader(dataset, EvaluationSampler(dataset))  # type: ignore[arg-type]

    def ordered_dataloader(
        self, split: Split, *, indices: Sequence[int] | None = None, augment: bool = False, view: int = 0
    ) -> ResumableLoader:
        """Batches of a split in the given order, each item once, on this process alone; for feature extraction.

        Args:
            split: which split.
            indices: which items, all by default.
            augment: transform images as in training, not as in evaluation.
            view: which view of the images: each has other random augmentations.
        """
        for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
            if is_overridden(hook, self, LongTailDataModule):
                raise LongTailError(
                    f"{type(self).__name__} overrides {hook}, which depends on the step of a training and is left out "
                    "when features are extracted: override prepare_batch or augment_batch instead."
                )
        dataset = self._splits.require(split)
        order = range(len(dataset)) if indices is None else indices  # type: ignore[arg-type]
        return self._loader(dataset, order, view=view, augment=augment, persistent=False)

    def _loader(
        self,
        dataset: Dataset[Any],
        sampler: Any,
        *,
        view: int | None = 0,
        augment: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        persistent: bool = True,
    ) -> ResumableLoader:
        if self.device_resident:
            dataset = self._resident(dataset, self.trainer.strategy.root_device if self.trainer else "cpu")
        transform = self.transforms.train if augment else self.transforms.evaluate
        return ResumableLoader(
            SeededDataset(dataset, self.seed, view=view, transform=transform, on_error=on_error),
            sampler=sampler,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=persistent and self.num_workers > 0,
            pin_memory=torch.cuda.is_available() and not self.device_resident,
            worker_init_fn=one_thread,
            epoch=self._running_epoch,
            views=self._views,
        )

    @cached_property
    def _resident(self) -> ResidentImages:
        if self.transforms.train is not None or self.transforms.evaluate is not None:
            raise LongTailError(
                "device_resident=True gathers whole batches, but these transforms work image by image "
                "(auto_augment, resized crops): set device_resident=False, or use transforms that only `augment`."
            )
        return ResidentImages()

    def setup(self, stage: str) -> None:
        """Name the long-tailed subset, in the output and in the logs."""
        self.show_views(None)  # a run that was interrupted has not taken it back
        if stage != "fit" or self.subset_id is None:
            return
        rank_zero_info(f"Training subset: {self.subset_id}")
        for logger in self.trainer.loggers if self.trainer else []:
            logger.log_hyperparams({"subset": str(self.subset_id)})

    def _check_test_classes(self) -> None:
        missing = set(range(self.class_counts.num_classes)) - set(self.labels("test").tolist())
        if missing:
            names = ", ".join(self.class_names[c] for c in sorted(missing)[:3])
            rank_zero_warn(
                f"The test set has no image of {len(missing)} of {self.class_counts.num_classes} classes "
                f"({names}{', ...' if len(missing) > 3 else ''}): they are left out of every average, not counted as 0."
            )
