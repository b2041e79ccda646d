"""What callbacks that work on features need: the parts of a module, its data, and banks of them."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts
from longtail_lightning.features import FeatureBank, extract_features

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


def has_split(trainer: L.Trainer, split: Literal["train", "val", "test"]) -> bool:
    """Whether there are images of a split, before they are loaded."""
    if (datamodule := _own_datamodule(trainer)) is not None:
        return datamodule.dataset(split) is not None
    if split != "val":
        return split == "train"
    return bool(trainer.val_dataloaders) or trainer.enable_validation


def bank_of(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    split: Literal["train", "val", "test"],
    *,
    num_classes: int | None,
    views: int = 1,
    dtype: torch.dtype = torch.float16,
) -> FeatureBank:
    """Features of a split from the module's backbone as it is, on all processes.

    Of a data module of this library the images are taken without augmentation (unless there are several
    views); of any other, the data set of its loader as it is.
    """
    source: Any = _own_datamodule(trainer)
    if source is None:
        source = _loader(trainer, split)
    _stop_progress(trainer)
    bank = extract_features(
        parts_of(pl_module, "Extraction")[0],
        source,
        split=split,
        views=views,
        dtype=dtype,
        device=pl_module.device,
        precision=str(trainer.precision) if trainer.precision in _MIXED else None,
        progress=trainer.progress_bar_callback is not None,
    )
    # A loader knows of no classes beyond its largest label.
    bank.num_classes = max(bank.num_classes, num_classes or 0)
    return bank


def _own_datamodule(trainer: L.Trainer) -> Any:
    datamodule = getattr(trainer, "datamodule", None)
    return datamodule if hasattr(datamodule, "ordered_dataloader") else None


def _loader(trainer: L.Trainer, split: str) -> DataLoader[Any]:
    loader: Any = trainer.train_dataloader if split == "train" else trainer.val_dataloaders
    if isinstance(loader, (list, tuple)) and loader:
        loader = loader[0]
    if not isinstance(loader, DataLoader):
        raise LongTailError(
            f"Features are extracted from a DataLoader, but the {split} loader is a {type(loader).__name__}: "
            "give the Trainer one DataLoader, or a data module of this library."
        )
    return loader


def _stop_progress(trainer: L.Trainer) -> None:
    """Two live displays would write over each other; Lightning's is done with by now."""
    stop = getattr(trainer.progress_bar_callback, "_stop_progress", None)
    if stop is not None:
        stop()
