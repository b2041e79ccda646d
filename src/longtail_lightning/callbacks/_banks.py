"""What callbacks that work on features need: the parts of a module, its data, and banks of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn
from torch.utils.data import DataLoader

from longtail_lightning import _lightning
from longtail_lightning._errors import LongTailError
from longtail_lightning._random import isolated_rng
from longtail_lightning.callbacks._forward import check_forward
from longtail_lightning.callbacks._parts import backbone_and_head
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.features import Extraction, FeatureBank
from longtail_lightning.features._checks import NotFiniteError
from longtail_lightning.features._encoding import Encoding
from longtail_lightning.features._source import LoaderSource, Source, labels_of_batch, source_of
from longtail_lightning.features.extract import extract

Split = Literal["train", "val", "test"]

parts_of = backbone_and_head
_MIXED = ("bf16-mixed", "16-mixed")  # with other precisions, the module already has the type that it computes in


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
    return split != "test" and _lightning.has_loader(trainer, split)


def probe(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    split: Split,
    *,
    views: int = 1,
    backbone: str = "backbone",
    head: str = "head",
) -> None:
    """Load and encode one image before the training, so that what cannot be extracted after it is refused now."""
    source, device = _source(trainer, pl_module, split), trainer.strategy.root_device
    if isinstance(source, LoaderSource) and (number := len(_lightning.loaders(trainer, split))) > 1:
        rank_zero_warn(
            f"Of the {number} {split} loaders, classifiers are re-trained, compared and chosen on the first "
            "alone: pass the one that is meant first."
        )
    with _stage(trainer, pl_module, augment=views > 1), source.loading(1, 0), isolated_rng(0):
        batch = next(iter(source.loader([0], augment=views > 1, view=0)))
        images = source.prepare(batch, device, augment=False)
        labels_of_batch(batch)
    parts = parts_of(pl_module, "Extraction", backbone, head)
    with _stage(trainer, pl_module, augment=False):
        check_forward(trainer, pl_module, parts, images, Encoding(parts[0], device, _autocast(trainer)))


def bank_of(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    split: Split,
    *,
    num_classes: int | None,
    views: int = 1,
    dtype: torch.dtype = torch.float16,
    backbone: str = "backbone",
    head: str = "head",
) -> FeatureBank:
    """Features of a split from the module's backbone as it is, on all processes.

    Images from a data module of this library are not augmented (unless there are several
    views); from any other, the data set of its loader is taken as it is. Features that float16 cannot hold are
    extracted once more, in float32.
    """
    source = _source(trainer, pl_module, split)
    _lightning.stop_progress(trainer)
    with _stage(trainer, pl_module, augment=views > 1):
        run = partial(
            extract,
            parts_of(pl_module, "Extraction", backbone, head)[0],
            source,
            None,
        )
        settings = Extraction(
            views=views,
            dtype=dtype,
            device=pl_module.device,
            precision=_autocast(trainer),
            progress=trainer.progress_bar_callback is not None,
        )
        try:
            bank = run(settings)
        except NotFiniteError as error:
            # All processes have the same error.
            if error.dtype != torch.float16:
                raise
            rank_zero_info(f"The {split} features are too large for float16 and are extracted again, in float32.")
            bank = run(replace(settings, dtype=torch.float32))
    if num_classes is not None and num_classes > bank.num_classes:
        # A loader knows of no classes beyond its largest label, or the last name.
        bank = bank.with_num_classes(num_classes)
    return bank


@contextmanager
def _stage(trainer: L.Trainer, pl_module: L.LightningModule, *, augment: bool) -> Iterator[None]:
    """Put the module on the Trainer's device; set it and the hooks to training or to validation for a while."""
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
        return source_of(datamodule, split)
    loader = _lightning.loaders(trainer, split)[0]
    if not isinstance(loader, DataLoader):
        raise LongTailError(
            f"Features are extracted from a DataLoader, but the {split} loader is a {type(loader).__name__}: "
            "give the Trainer one DataLoader, or a data module of this library."
        )
    return LoaderSource(loader, split, hooks=partial(_lightning.through_hooks, trainer, pl_module))


def _own_datamodule(trainer: L.Trainer) -> Any:
    source = _lightning.data_source(trainer)
    return source if isinstance(source, LongTailDataModule) else None


def _autocast(trainer: L.Trainer) -> str | None:
    return str(trainer.precision) if trainer.precision in _MIXED else None
