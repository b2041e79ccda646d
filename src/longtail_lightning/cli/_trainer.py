"""What `ltl` adds to a trainer: checkpoints, and how they are written."""

from __future__ import annotations

import inspect
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import CheckpointIO

from longtail_lightning._lightning import SHARDED
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.modules import BaseClassifier
from longtail_lightning.plugins import WholeCheckpointIO


def default_checkpoints(model: L.LightningModule, data: LongTailDataModule) -> list[ModelCheckpoint]:
    """The best epoch and the last one.

    Args:
        model: what is trained.
        data: what it is trained on; without validation there is no best epoch.
    """
    # Other modules may log under other names.
    if data.dataset("val") is None or not isinstance(model, BaseClassifier):
        return [ModelCheckpoint(filename="epoch{epoch}", auto_insert_metric_name=False, save_last=True)]
    best = ModelCheckpoint(
        filename="best", monitor="val/acc", mode="max", auto_insert_metric_name=False, enable_version_counter=False
    )
    # With save_last, Lightning would write it only together with the best: a run could not resume from its last
    # epoch, and one that did would end with another last.ckpt.
    return [best, ModelCheckpoint(filename="last", enable_version_counter=False)]


def with_whole_files(options: Any) -> list[Any]:
    """The plug-ins of the trainer, and ours that writes checkpoints, unless the user has chosen another.

    Args:
        options: those of the trainer.
    """
    plugins = options.get("plugins") or []
    plugins = list(plugins) if isinstance(plugins, list) else [plugins]
    strategy = options.get("strategy")
    # These write with many processes into a folder.
    own = isinstance(strategy, SHARDED) or str(strategy).startswith(("deepspeed", "fsdp", "xla"))
    own = own or getattr(strategy, "_checkpoint_io", None) is not None
    return (
        plugins if own or any(isinstance(each, CheckpointIO) for each in plugins) else [*plugins, WholeCheckpointIO()]
    )


class WithoutForeignCounts(L.Callback):
    """Keep the linked class counts out of checkpoints of modules that do not take them."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        parameters = inspect.signature(type(pl_module).__init__).parameters
        takes = "class_counts" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if not takes:
            pl_module.hparams.pop("class_counts", None)
