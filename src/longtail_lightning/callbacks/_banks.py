"""What callbacks that work on features need: the parts of a module, its data, and banks of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.trainer.states import RunningStage
from torch import nn
from torch.utils.data import DataLoader

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import isolated_rng
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._source import LoaderSource, Source, images_of, labels_of_batch, source_of
from longtail_lightning.features.extract import extract

Split = Literal["train", "val", "test"]

_MIXED = ("bf16-mixed", "16-mixed")  # with the others the module has the type that it computes in


def parts_of(pl_module: L.LightningModule, who: str) -> tuple[nn.Module, nn.Module]:
    """Backbone and head of any module."""
    backbone, head = (getattr(pl_module, name, None) for name in ("backbone", "head"))
    if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Module):
        missing = "backbone" if not isinstance(backbone, nn.Module) else "head"
        raise LongTailError(
            f"{who} works on features, but {type(pl_module).__name__} has no `{missing}`: set self.backbone, from "
            "images to (batch, features), and self.head, from features to logits, and call head(backbone(images))."
        )
    return backbone, head


def num_classes_of(head: nn.Module, counts: ClassCounts | None, who: str) -> int | None:
    """How many classes there are, as far as it is known before the images are seen."""
    outputs: int | None = getattr(head, "num_classes", getattr(head, "out_features", None))
    if counts is not None and outputs is not None and outputs != len(counts):
        raise LongTailError(
            f"{who} compares classifiers of the {len(counts)} classes of the data, but the {type(head).__name__} has "
            f"{outputs} outputs: give it one per class."
        )
    return outputs if counts is None else len(counts)


def has_split(trainer: L.Trainer, split: Split) -> bool:
    """Whether there are images of a split, before they are loaded."""
    if (datamodule := _own_datamodule(trainer)) is not None:
        return datamodule.dataset(split) is not None
    return split != "test" and bool(_loop(trainer, split)._data_source.is_defined())


def probe(trainer: L.Trainer, pl_module: L.LightningModule, split: Split, *, views: int = 1) -> None:
    """Refuse before the training what features cannot be extracted from after it: one image is loaded."""
    source = _source(trainer, pl_module, split)
    with _stage(trainer, pl_module, augment=views > 1), source.loading(1, 0), isolated_rng(0):
        batch = next(iter(source.loader([0], augment=views > 1, view=0)))
        source.prepare(images_of(batch, source.name), augment=False, key=(0, 0))
        labels_of_batch(batch)


def bank_of(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    split: Split,
    *,
    num_classes: int | None,
    views: int = 1,
    dtype: torch.dtype = torch.float16,
) -> FeatureBank:
    """Features of a split from the module's backbone as it is, on all processes.

    Of a data module of this library the images are taken without augmentation (unless there are several
    views); of any other, the data set of its loader as it is.
    """
    source = _source(trainer, pl_module, split)
    _stop_progress(trainer)
    with _stage(trainer, pl_module, augment=views > 1):
        bank = extract(
            parts_of(pl_module, "Extraction")[0],
            source,
            None,
            views=views,
            augment=views > 1,
            dtype=dtype,
            batch_size=None,
            num_workers=None,
            device=pl_module.device,
            precision=str(trainer.precision) if trainer.precision in _MIXED else None,
            shard_size=None,
            overwrite=False,
            progress=trainer.progress_bar_callback is not None,
            resume="",
            instead="",
        )
    if num_classes is not None and num_classes > bank.num_classes:
        # A loader knows of no classes beyond its largest label, or the last name.
        bank.num_classes, bank._class_names = num_classes, None
    return bank


class _Loader(LoaderSource):
    """The data set of a loader, whose batches go through the hooks of the user as in the training."""

    def __init__(self, trainer: L.Trainer, pl_module: L.LightningModule, loader: DataLoader[Any], split: str) -> None:
        super().__init__(loader, split)
        self.trainer = trainer
        self.pl_module = pl_module

    def loader(self, indices: Sequence[int], *, augment: bool, view: int) -> Iterator[Any]:
        for number, batch in enumerate(super().loader(indices, augment=augment, view=view)):
            # What a hook draws belongs to these images, whichever process has them.
            with isolated_rng(view, indices[number * self.batch_size]):
                batch = self.trainer.precision_plugin.convert_input(batch)
                batch = self.pl_module._on_before_batch_transfer(batch)
                batch = self.pl_module._apply_batch_transfer_handler(batch)
            yield batch


@contextmanager
def _stage(trainer: L.Trainer, pl_module: L.LightningModule, *, augment: bool) -> Iterator[None]:
    """The module where the Trainer works; it and the hooks are told that it validates, or else that it trains."""
    # Lightning has moved the module to the CPU by the end of a fit.
    home, stage = pl_module.device, trainer.state.stage
    modes = [(module, module.training) for module in pl_module.modules()]
    trainer.state.stage = RunningStage.TRAINING if augment else RunningStage.VALIDATING
    pl_module.to(trainer.strategy.root_device).train(augment)
    try:
        yield
    finally:
        pl_module.to(home)
        for module, training in modes:
            module.training = training
        trainer.state.stage = stage


def _source(trainer: L.Trainer, pl_module: L.LightningModule, split: Split) -> Source:
    if (datamodule := _own_datamodule(trainer)) is not None:
        for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
            if getattr(type(datamodule), hook) is not getattr(LongTailDataModule, hook):
                raise LongTailError(
                    f"{type(datamodule).__name__} overrides {hook}, which depends on the step of a training and is "
                    "left out when features are extracted: override prepare_batch or augment_batch instead."
                )
        return source_of(datamodule, split)
    loop = _loop(trainer, split)
    # Lightning asks for no loader that it does not use.
    loader = loop._data_source.dataloader() if loop._combined_loader is None else loop._combined_loader.iterables
    if isinstance(loader, (list, tuple)) and loader:
        loader = loader[0]
    if not isinstance(loader, DataLoader):
        raise LongTailError(
            f"Features are extracted from a DataLoader, but the {split} loader is a {type(loader).__name__}: "
            "give the Trainer one DataLoader, or a data module of this library."
        )
    return _Loader(trainer, pl_module, loader, split)


def _loop(trainer: L.Trainer, split: Split) -> Any:
    """The loop that has the loader of a split."""
    if split == "train":
        return trainer.fit_loop
    return trainer.validate_loop if trainer.state.fn == "validate" else trainer.fit_loop.epoch_loop.val_loop


def _own_datamodule(trainer: L.Trainer) -> Any:
    datamodule = getattr(trainer, "datamodule", None)
    return datamodule if isinstance(datamodule, LongTailDataModule) else None


def _stop_progress(trainer: L.Trainer) -> None:
    """Two live displays would write over each other; Lightning's is done with by now."""
    stop = getattr(trainer.progress_bar_callback, "_stop_progress", None)
    if stop is not None:
        stop()
