"""The data module that all others extend by answering one question: which data set is this split?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Sampler, Subset
from torchvision.transforms import v2

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import isolated_rng
from longtail_lightning.counts import ClassCounts
from longtail_lightning.datasets.array_images import on_device
from longtail_lightning.datasets.image_transforms import ImageTransforms
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.loader import ResumableLoader, SeededDataset, collate, item_name, one_thread
from longtail_lightning.datasets.long_tail import Draw, Profile, SubsetId, long_tail_indices, profile_name
from longtail_lightning.datasets.splits import Split as Split
from longtail_lightning.datasets.splits import hold_out
from longtail_lightning.samplers import EvaluationSampler, InstanceBalancedSampler, LongTailSampler

SamplerCallable = Callable[[Any], LongTailSampler]


class LongTailDataModule(L.LightningDataModule, ABC):
    """Base of all data modules: class counts, samplers, held-out validation, batch augmentation.

    A child answers `build(split)`; the rest follows. Items are `(image, label)`, images plain:
    `transforms` say what training and evaluation do to them. Images may stay uint8: they are
    augmented, scaled and normalized as whole batches after the transfer to the device. Everything
    random is a function of (seed, epoch, batch), so a resumed run repeats an uninterrupted one.

    Args:
        transforms: what training and evaluation do to images; nothing by default.
        batch_size: images per batch and process.
        num_workers: processes that load images.
        sampler: from labels to training sampler, for example `ClassBalancedSampler`;
            instance-balanced by default.
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
        cutmix_alpha: strength of cutmix (Yun et al. 2019), 0 for none; with both, each batch gets
            one of them.

    Examples:
        >>> from torch.utils.data import TensorDataset
        >>> class Mine(LongTailDataModule):
        ...     def build(self, split):
        ...         return TensorDataset(torch.zeros(9, 3, 8, 8), torch.tensor([0] * 6 + [1] * 3))
        >>> Mine(val_split=0.34).class_counts
        ClassCounts([6, 3])
    """

    mean: Sequence[float] | None = None
    """Channel means of images in [0, 1]; with `std`, batches are normalized by them; those of `transforms` win."""
    std: Sequence[float] | None = None

    def __init__(
        self,
        *,
        transforms: ImageTransforms | None = None,
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
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise LongTailError(f"batch_size={batch_size} must be at least 1.")
        if on_error not in ("raise", "skip"):
            raise LongTailError(f"on_error={on_error!r}: choose 'raise' or 'skip'.")
        if device_resident and num_workers:
            raise LongTailError(f"device_resident=True loads nothing: set num_workers=0 (it is {num_workers}).")
        if min(mixup_alpha, cutmix_alpha) < 0:
            raise LongTailError(f"mixup_alpha={mixup_alpha}, cutmix_alpha={cutmix_alpha}: 0 is none, none is less.")
        if imbalance_factor is None and isinstance(profile, str) and profile != "exp":
            raise LongTailError(f"profile={profile!r} does nothing without imbalance_factor: give both.")
        self.transforms = transforms if transforms is not None else ImageTransforms()
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
        self._resume_at: dict[str, Any] | None = None

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

    def augment_batch(self, images: Tensor) -> Tensor:
        """Random augmentation of a training batch, before scaling; that of `transforms` by default."""
        return self.transforms.augment(images)

    def item_name(self, index: int) -> str:
        """What predictions call item `index` of the test set: its file, or its index when there is none."""
        return item_name(self.dataset("test"), index)

    def subset_name(self) -> str:
        """What a long-tailed subset of the training set is called, without the shape of its tail."""
        return type(self).__name__

    # -- what follows ----------------------------------------------------------------------------

    @cached_property
    def class_counts(self) -> ClassCounts:
        """Images of each class in the training split, from labels only; available before `setup`."""
        labels = self.labels("train")
        # A class that a long tail leaves without images is still a class.
        return ClassCounts.from_labels(labels, self.num_classes or self._num_labels)

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
        dataset = self.dataset(split)
        if dataset is None:
            raise LongTailError(f"{type(self).__name__} has no {split} split.")
        return labels_of(dataset)

    def dataset(self, split: Split) -> Dataset[Any] | None:
        """The data set of a split, after holding out the validation images; built once."""
        if split not in self._datasets:
            self._datasets[split] = self._build(split)
        return self._datasets[split]

    @cached_property
    def _datasets(self) -> dict[str, Dataset[Any] | None]:
        return {}

    def _built(self, split: Split) -> Dataset[Any] | None:
        if split not in self._raw:
            # Tensors made while Lightning evaluates could not be trained on later.
            with torch.inference_mode(False):
                dataset = self.build(split)
            if isinstance(dataset, IterableDataset) or (dataset is not None and not hasattr(dataset, "__len__")):
                raise LongTailError(
                    f"{type(self).__name__}: the {split} split is a {type(dataset).__name__}, which can only be read "
                    "from its beginning: build a data set with __getitem__ and __len__, so that samplers can choose."
                )
            wanted = self.imbalance_factor is not None or not isinstance(self.profile, str)
            if split == "train" and dataset is not None and wanted:
                dataset = self._long_tailed(dataset)
            self._raw[split] = dataset
        return self._raw[split]

    @cached_property
    def _raw(self) -> dict[str, Dataset[Any] | None]:
        return {}

    @property
    def subset_id(self) -> SubsetId | None:
        """Which images of the training set a long-tailed subset keeps; None when all of them are used."""
        self._built("train")
        return self._subset_id

    _subset_id: SubsetId | None = None
    _num_labels: int | None = None  # classes before a long-tailed subset was taken

    @property
    def _held_out(self) -> str | None:
        """Which training images validate, in words."""
        if not self.val_split or self._built("val") is not None:
            return None
        return f"val_split={self.val_split}, seed={self.seed}"

    def _long_tailed(self, dataset: Dataset[Any]) -> Dataset[Any]:
        factor = 1.0 if self.imbalance_factor is None else self.imbalance_factor  # counts in `profile` need none
        labels = labels_of(dataset)
        self._num_labels = int(labels.max()) + 1
        options: dict[str, Any] = {"max_count": self.max_count, "draw": self.subset_draw, "seed": self.subset_seed}
        indices = long_tail_indices(labels, factor, self.profile, **options)
        name = f"{self.subset_name()}-{profile_name(factor, self.profile, self.subset_draw)}"
        self._subset_id = SubsetId.of(name, indices, self.subset_seed if self.subset_draw == "random" else 0)
        return Subset(dataset, indices.tolist())

    def _build(self, split: Split) -> Dataset[Any] | None:
        dataset = self._built(split)
        if dataset is not None and len(dataset) == 0:  # type: ignore[arg-type]
            raise LongTailError(f"{type(self).__name__}: the {split} split is empty; check the data path.")
        if self.val_split and split != "test":
            own_val = dataset if split == "val" else self._built("val")
            full = dataset if split == "train" else self._built("train")
            if own_val is None and full is not None:
                train, val = hold_out(labels_of(full), self.val_split, seed=self.seed)
                return Subset(full, (train if split == "train" else val).tolist())
        if split == "train" and dataset is None:
            raise LongTailError(f"{type(self).__name__}.build('train') gave no data set.")
        return dataset

    def train_dataloader(self) -> ResumableLoader:
        """Training batches in the order of the sampler."""
        dataset = self.dataset("train")
        assert dataset is not None  # `_build` refuses a missing training split
        labels = labels_of(dataset)
        sampler = self.sampler(labels) if self.sampler else InstanceBalancedSampler(labels)
        if isinstance(sampler, LongTailSampler):
            sampler.seed = sampler.seed or self.seed
        placed = self._placed(dataset)
        seeded = SeededDataset(placed, self.seed, transform=self.transforms.train, on_error=self.on_error)
        loader = ResumableLoader(seeded, batch_size=self.batch_size, sampler=sampler, **self._loading())
        state, self._resume_at = self._resume_at, None
        if state is None:
            return loader
        size = self.batch_size * (self.trainer.world_size if self.trainer else 1)
        if state["batches"] and state.get("batch_size", size) != size:
            raise LongTailError(
                f"The checkpoint stands in the middle of an epoch of {state['batch_size']} images per step, "
                f"this run has {size}: resume with the same batch size and number of devices, "
                "or from the end of an epoch."
            )
        loader.begin_at(state["batches"], state["epoch"])
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Batches of the running epoch that have been trained on; 0 between epochs.

        The loader tells Lightning the same, but Lightning forgets it when the number of steps was
        estimated before the run, as learning-rate schedules do.
        """
        if self.trainer is None:
            return {"batches": 0, "epoch": 0}
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        # A batch that is ready but not processed was interrupted by an exception: it is due again.
        done: int = progress.current.processed  # type: ignore[attr-defined]  # typed as its parent
        if progress.is_last_batch and done == progress.current.ready:
            done = 0
        size = self.batch_size * self.trainer.world_size
        state = {"batches": done, "epoch": self.trainer.current_epoch, "batch_size": size}
        return {**state, "subset": self.subset_id and str(self.subset_id), "held_out": self._held_out}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader begin after so many batches."""
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            return  # Lightning restores data modules to evaluate, too: a later fit begins at its beginning
        subset = None if self.subset_id is None else str(self.subset_id)
        held_out = self._held_out
        if (saved := state_dict.get("subset", subset)) != subset:
            raise LongTailError(
                f"The checkpoint was trained on {f'the subset {saved}' if saved else 'all images'}, this run has "
                f"{subset or 'all images'}: "
                "resume with the same data, imbalance_factor, profile and subset_seed."
            )
        if (saved := state_dict.get("held_out", held_out)) != held_out:
            raise LongTailError(
                f"The checkpoint was trained with {saved or 'no held-out images'}, this run has "
                f"{held_out or 'none'}: resume with the same val_split and seed, or images of the one part "
                "come into the other."
            )
        self._resume_at = dict(state_dict)

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
        if len(dataset) < world_size:  # type: ignore[arg-type]
            raise LongTailError(
                f"The {split} split has {len(dataset)} images for {world_size} processes: "  # type: ignore[arg-type]
                "use fewer devices, or more images."
            )
        return ResumableLoader(
            SeededDataset(self._placed(dataset), self.seed, transform=self.transforms.evaluate),
            batch_size=self.batch_size,
            sampler=EvaluationSampler(dataset),  # type: ignore[arg-type]
            **self._loading(),
        )

    def ordered_dataloader(
        self, split: Split, *, indices: Sequence[int] | None = None, augment: bool = False, epoch: int = 0
    ) -> ResumableLoader:
        """Batches of a split in the given order, none twice, on this process alone: to extract features.

        Args:
            split: which split.
            indices: which items, all by default.
            augment: transform images as in training, not as in evaluation.
            epoch: another epoch, other random augmentations.
        """
        for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
            if getattr(type(self), hook) is not getattr(LongTailDataModule, hook):
                raise LongTailError(
                    f"{type(self).__name__} overrides {hook}, which depends on the step of a training and is left out "
                    "when features are extracted: override prepare_batch or augment_batch instead."
                )
        dataset = self.dataset(split)
        if dataset is None:
            raise LongTailError(f"{type(self).__name__} has no {split} split.")
        transform = self.transforms.train if augment else self.transforms.evaluate
        seeded = SeededDataset(self._placed(dataset), self.seed, transform=transform)
        seeded.set_epoch(epoch)
        order = range(len(seeded)) if indices is None else indices
        loading = {**self._loading(), "persistent_workers": False}
        return ResumableLoader(seeded, batch_size=self.batch_size, sampler=_Order(order, epoch), **loading)

    def _placed(self, dataset: Dataset[Any]) -> Dataset[Any]:
        """The data set, on the trainer's device if it shall live there."""
        if not self.device_resident:
            return dataset
        if self.transforms.train is not None or self.transforms.evaluate is not None:
            raise LongTailError(
                "device_resident=True gathers whole batches, but these transforms work image by image "
                "(auto_augment, resized crops): set device_resident=False, or use transforms that only `augment`."
            )
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        # Evaluation may be the first to ask; what is made in inference mode would stay marked by it.
        with torch.inference_mode(False):
            return on_device(dataset, device, self._moved)

    @cached_property
    def _moved(self) -> dict[Any, Any]:
        return {}

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available() and not self.device_resident,
            "worker_init_fn": one_thread,
            "collate_fn": collate,
        }

    def setup(self, stage: str) -> None:
        """Name the long-tailed subset, in the output and in the logs."""
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

    # -- batches on the device -------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment (training only), scale to [0, 1], normalize, mix."""
        if isinstance(batch, Tensor):
            return self._converted(self._normalize(batch))
        if not isinstance(batch, (list, tuple)) or len(batch) < 2:
            raise LongTailError(
                f"{type(self).__name__} gives batches as {type(batch).__name__}, expected (images, labels): "
                "let the data set return (image, label), or override on_after_batch_transfer."
            )
        images, target, *rest = batch
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return [self._converted(self._normalize(images)), target, *rest]
        step = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        key = (trainer.current_epoch, step, trainer.global_rank)
        images = self.prepare_batch(images, augment=True, key=key)
        if self._mixes:
            with isolated_rng(self.seed, *key, _MIX):
                images, target = v2.RandomChoice(self._mixes)(images, target.long())
        return [self._converted(images), target, *rest]

    def _converted(self, images: Tensor) -> Tensor:
        """Lightning converted the batch for bf16-true and the like while it was still uint8."""
        return images if self.trainer is None else self.trainer.precision_plugin.convert_input(images)  # type: ignore[no-any-return]

    def prepare_batch(self, images: Tensor, *, augment: bool = False, key: Sequence[int] = ()) -> Tensor:
        """Augment (when asked), scale to [0, 1] and normalize a batch on its device.

        Args:
            images: as the loader gives them.
            augment: apply `augment_batch`.
            key: numbers that, with the seed, decide the augmentation.
        """
        if augment:
            with isolated_rng(self.seed, *key):
                images = self.augment_batch(images)
        return self._normalize(images)

    @cached_property
    def _mixes(self) -> list[v2.Transform]:
        num_classes = self.class_counts.num_classes
        mixes: list[v2.Transform] = []
        if self.mixup_alpha:
            mixes.append(v2.MixUp(alpha=self.mixup_alpha, num_classes=num_classes))
        if self.cutmix_alpha:
            mixes.append(v2.CutMix(alpha=self.cutmix_alpha, num_classes=num_classes))
        return mixes

    def _normalize(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            # Scaling is part of mean and std: two passes over the batch instead of three.
            mean, std = self._statistics(255.0, images.device, torch.float32)
            images = _as_float(images).sub_(mean).div_(std)
        elif self.mean is not None:
            mean, std = self._statistics(1.0, images.device, images.dtype)
            images = (images - mean).div_(std)
        return images

    def _statistics(self, white: float, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and std of images whose brightest value is `white`, kept on the device: a copy per batch would wait."""
        mean, std = (0.0,) if self.mean is None else tuple(self.mean), (1.0,) if self.std is None else tuple(self.std)
        key = (mean, std, white, device, dtype)
        if key not in self._kept:
            with torch.inference_mode(False):
                scaled = [torch.tensor(values, dtype=torch.float64).mul(white).to(dtype) for values in (mean, std)]
                self._kept[key] = (scaled[0].to(device).view(-1, 1, 1), scaled[1].to(device).view(-1, 1, 1))
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[Any, tuple[Tensor, Tensor]]:
        return {}


def _as_float(images: Tensor) -> Tensor:
    """A float copy of uint8 images; numpy asks for large pages, without which a batch costs three times as long."""
    if images.device.type != "cpu":
        return images.float()
    return torch.from_numpy(np.empty(images.shape, dtype=np.float32)).copy_(images)


_MIX = 1  # tells the random numbers of mixing from those of augmentation


class _Order(Sampler[int]):
    """The given indices."""

    def __init__(self, indices: Sequence[int], epoch: int) -> None:
        self.indices = indices
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
