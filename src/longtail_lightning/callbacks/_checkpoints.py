"""Checkpoints of a fit: which to begin from, what they are called, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from longtail_lightning._errors import LongTailError
from longtail_lightning._torch_files import read_torch_file


def load_best(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Load the best weights of the fit into its module, or leave the last ones and say why.

    A resumed run takes the path of its best checkpoint from the checkpoint that it resumes, which may be anybody's.
    So the path is followed only into a folder of this trainer's own checkpoints, and no code in the file is run.
    """
    saved = [checkpoint for checkpoint in _callbacks_of(trainer) if checkpoint.best_model_path]
    # The first with a monitor decides; one without a monitor calls its newest checkpoint the best.
    saved.sort(key=lambda checkpoint: checkpoint.monitor is None)
    path = Path(saved[0].best_model_path) if saved else Path()
    if not trainer.strategy.reduce_boolean_decision(path.is_file()):
        return  # all processes start alike, even if they share no disk
    folder = Path(saved[0].dirpath or "").resolve()
    if not path.resolve().is_relative_to(folder):
        rank_zero_warn(
            f"The best checkpoint, {path}, is none of this run, which writes to {folder}: the last weights are "
            "used. To begin from that one, load it and fit with max_epochs=0."
        )
        return
    # Objects of these classes are in the checkpoint when the module has them as hyper-parameters.
    classes: list[Any] = [type(value) for value in pl_module.hparams.values()]
    try:
        with torch.serialization.safe_globals(classes):
            weights = read_torch_file(path)["state_dict"]
    except LongTailError as error:
        rank_zero_warn(f"The last weights are used instead of the best: {error}")
        return
    pl_module.load_state_dict(weights)


def files_of(trainer: L.Trainer) -> set[Path]:
    """The files that the fit has written, or will write under a fixed name."""
    files: set[Path] = set()
    for checkpoint in _callbacks_of(trainer):
        names = [checkpoint.filename, checkpoint.CHECKPOINT_NAME_LAST if checkpoint.save_last else None]
        written = [*checkpoint.best_k_models, checkpoint.best_model_path, checkpoint.last_model_path]
        files.update(Path(checkpoint.dirpath or "") / f"{name}.ckpt" for name in names if name)
        files.update(Path(path) for path in written if path)
    return files


def folder_of(trainer: L.Trainer) -> Path | None:
    """The folder of the first ModelCheckpoint, or that of the logger; None when nothing is written."""
    checkpoint = trainer.checkpoint_callback
    folder = checkpoint.dirpath if isinstance(checkpoint, ModelCheckpoint) else None
    log_dir = trainer.log_dir  # asked for by all processes: it is a broadcast
    if folder is None and trainer.logger is not None and log_dir is not None:
        folder = Path(log_dir) / "checkpoints"
    return None if folder is None else Path(folder)


def _callbacks_of(trainer: L.Trainer) -> list[ModelCheckpoint]:
    return [checkpoint for checkpoint in trainer.checkpoint_callbacks if isinstance(checkpoint, ModelCheckpoint)]
