"""Features in the place of images: what trains on images trains on a bank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from typing_extensions import Self

from longtail_lightning._distributed import on_rank_zero
from longtail_lightning._errors import LongTailError
from longtail_lightning._random import random_integers
from longtail_lightning.data.datamodule import LongTailDataModule, SamplerCallable, Split
from longtail_lightning.features import FeatureBank, extract_features
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.features._fingerprint import require_equal
from longtail_lightning.features._require import require_fits
from longtail_lightning.features._source import LoaderSource, Source, source_of

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_STAGES: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "test": ("test",)}


class FeatureDataModule(LongTailDataModule):
    """A data module whose items are feature vectors, from the banks of an image data module.

    Any sampler, loss and module trains on it; a model takes `IdentityBackbone(num_features)` in the
    place of its backbone. For a head alone, `fit_head` is many times faster: use this where a
    LightningModule with its callbacks and logs is wanted.

    Of several views, training takes one of each image at random, evaluation the first.

    Args:
        banks: a folder with `train`, `val` and `test`, as `ltl features` writes it, or a bank or its
            folder for each split.
        batch_size: features per batch and process.
        num_workers: processes that read features; 0 is fastest, a batch is one look into memory.
        sampler: from labels to training sampler, for example `ClassBalancedSampler`; instance-balanced
            by default.
        val_split: share of each training class to hold out, when there is no validation bank.
        seed: seed of order and split.
        with_index: give batches as `(features, labels, index)`, the places of the items in their split.

    Examples:
        >>> from longtail_lightning import BaseClassifier, CIFARResNet, IdentityBackbone, SyntheticLongTail
        >>> images = SyntheticLongTail(num_classes=3, max_count=6, imbalance_factor=2)
        >>> dm = FeatureDataModule.from_encoder(images, CIFARResNet(8), progress=False)
        >>> dm.num_features, dm.class_counts
        (64, ClassCounts([6, 4, 3]))
        >>> model = BaseClassifier(dm.class_counts, backbone=IdentityBackbone(dm.num_features))
        >>> features, labels, items = next(iter(dm.train_dataloader()))
        >>> model(features.float()).shape
        torch.Size([13, 3])
    """

    def __init__(
        self,
        banks: str | Path | Mapping[str, Any],
        *,
        batch_size: int = 512,
        num_workers: int = 0,
        sampler: SamplerCallable | None = None,
        val_split: float = 0.0,
        seed: int = 0,
        with_index: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            sampler=sampler,
            val_split=val_split,
            seed=seed,
            with_index=with_index,
        )
        self.banks = banks
        self._opened = _open(banks)

    @classmethod
    def from_encoder(
        cls,
        datamodule: L.LightningDataModule,
        encoder: nn.Module,
        path: str | Path | None = None,
        *,
        num_classes: int | None = None,
        views: int = 1,
        dtype: torch.dtype = torch.float16,
        device: torch.device | str = "auto",
        precision: Literal["32", "bf16", "16"] | None = None,
        progress: bool = True,
        batch_size: int = 512,
        sampler: SamplerCallable | None = None,
        seed: int = 0,
    ) -> Self:
        """Run a frozen encoder over all splits of an image data module; see `extract_features`.

        From a data module of another library, the data sets of its train, val and test loaders are taken
        as they are. Batches go through its transfer hooks, outside of a Trainer.

        Args:
            datamodule: images; any LightningDataModule whose loaders give (images, labels).
            encoder: from images to features.
            path: folder of the banks; in memory by default.
            num_classes: how many classes there are, when the last ones of another data module have no training image.
            views: augmented views of each training image.
            dtype: type of the features.
            device: where to run the encoder.
            precision: `"bf16"` or `"16"` for autocast.
            progress: show progress bars.
            batch_size: features per batch, when they are trained on.
            sampler: from labels to training sampler.
            seed: seed of the order.
        """
        banks: dict[str, FeatureBank] = {
            split: extract_features(
                encoder,
                source,
                None if path is None else Path(path) / split,
                views=views if split == "train" else 1,
                dtype=dtype,
                device=device,
                precision=precision,
                progress=progress,
            )
            for split, source in _sources(datamodule, num_classes, choose_device(device, encoder))
        }
        return cls(banks, batch_size=batch_size, sampler=sampler, seed=seed)

    def build(self, split: Split) -> Dataset[Any] | None:
        return BankDataset(self._opened[split]) if split in self._opened else None

    def build_class_names(self) -> list[str]:
        return self._opened["train"].class_names

    @property
    def num_classes(self) -> int:
        return self._opened["train"].num_classes

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self._opened["train"].num_features

    def augment_batch(self, images: Tensor, keys: np.ndarray) -> Tensor:
        """One of the views of each item."""
        if images.ndim == 2:
            return images
        chosen = torch.from_numpy(random_integers(keys, [images.shape[1]])[0])
        return images[torch.arange(len(images), device=images.device), chosen.to(images.device)]

    def prepare_batch(self, images: Tensor, *, items: np.ndarray | None = None, augment: bool = False) -> Tensor:
        features = super().prepare_batch(images, items=items, augment=augment)
        return (features[:, 0] if features.ndim == 3 else features).float()


def _sources(
    datamodule: L.LightningDataModule, num_classes: int | None, device: torch.device
) -> Iterator[tuple[Split, Source]]:
    """The splits that exist; a foreign data module is asked for them in the way of a Trainer."""
    if isinstance(datamodule, LongTailDataModule):
        for split in _SPLITS:
            if datamodule.dataset(split) is not None:
                yield split, source_of(datamodule, split, num_classes)
        return
    on_rank_zero(datamodule.prepare_data)
    for stage, splits in _STAGES.items():
        has = [split for split in splits if is_overridden(f"{split}_dataloader", datamodule)]
        if not has:
            continue
        datamodule.setup(stage)
        for split in has:
            loader = getattr(datamodule, f"{split}_dataloader")()
            if isinstance(loader, (list, tuple)) and len(loader) == 1:
                loader = loader[0]
            if isinstance(loader, DataLoader):
                yield split, LoaderSource(loader, split, num_classes, hooks=partial(_through_hooks, datamodule, device))
            elif loader is not None and loader != []:
                raise LongTailError(
                    f"{type(datamodule).__name__}.{split}_dataloader() gives a {type(loader).__name__}, not one "
                    "DataLoader: make the banks with extract_features, and give them to FeatureDataModule."
                )
        datamodule.teardown(stage)


def _through_hooks(datamodule: L.LightningDataModule, device: torch.device, batch: Any) -> Any:
    """A batch after the transfer hooks of its data module."""
    try:
        batch = datamodule.on_before_batch_transfer(batch, 0)
        batch = datamodule.transfer_batch_to_device(batch, device, 0)
        return datamodule.on_after_batch_transfer(batch, 0)
    except AttributeError as error:
        if error.obj is not None:
            raise
        raise LongTailError(
            f"A transfer hook of {type(datamodule).__name__} fails outside of a Trainer ({error}): "
            "let it work where self.trainer is None, as features are extracted without one."
        ) from error


class BankDataset(Dataset[Any]):
    """Items `(features, label)` of a bank; features are `(views, num_features)` when there are several views."""

    def __init__(self, bank: FeatureBank) -> None:
        self.bank = bank
        self.labels = bank.require_single_labels("FeatureDataModule")

    def __len__(self) -> int:
        return len(self.bank)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        features, labels = self.batch([index])
        return features[0], labels[0]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Features and labels of several items at once."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        features = self.bank.views.index_select(1, chosen)
        return features[0] if len(features) == 1 else features.transpose(0, 1), self.labels[chosen]

    def file(self, index: int) -> str:
        """What the item is called."""
        return str(self.bank.ids[index])


def _open(banks: str | Path | Mapping[str, Any]) -> dict[str, FeatureBank]:
    """Open the bank of each split that exists."""
    if not isinstance(banks, Mapping):
        folder = Path(banks)
        banks = {split: folder / split for split in _SPLITS if (folder / split).is_dir()}
        if "train" not in banks:
            raise LongTailError(
                f"{folder} holds no bank of a training split, {folder / 'train'}: "
                "make the banks with `ltl features --ckpt_path FILE --out FOLDER`."
            )
    if unknown := sorted(banks.keys() - set(_SPLITS)):
        raise LongTailError(f"banks has a split {unknown[0]!r}: splits are called train, val and test.")
    opened = {split: bank if isinstance(bank, FeatureBank) else FeatureBank.load(bank) for split, bank in banks.items()}
    if "train" not in opened:
        raise LongTailError("banks has no 'train' split: give the bank to train on.")
    for split, bank in opened.items():
        expect = {"encoder": opened["train"].fingerprint.get("encoder")}
        require_equal(expect, bank.fingerprint, f"The {split} bank", "extract all splits with one encoder")
        require_fits(opened["train"], bank, f"The {split} bank")
    return opened
