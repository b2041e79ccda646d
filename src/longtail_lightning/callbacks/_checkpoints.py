"""Checkpoints of a fit: which is the best, what they are called, and where they lie."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


def best_of(trainer: L.Trainer) -> str:
    """The best checkpoint by the first that has a monitor; to the others, the newest is the best."""
    saved = [checkpoint for checkpoint in _callbacks_of(trainer) if checkpoint.best_model_path]
    saved.sort(key=lambda checkpoint: checkpoint.monitor is None)
    return saved[0].best_model_path if saved else ""


def files_of(trainer: L.Trainer) -> set[Path]:
    """What the fit has written, or will write under a name that is fixed."""
    files: set[Path] = set()
    for checkpoint in _callbacks_of(trainer):
        names = [checkpoint.filename, checkpoint.CHECKPOINT_NAME_LAST if checkpoint.save_last else None]
        written = [*checkpoint.best_k_models, checkpoint.best_model_path, checkpoint.last_model_path]
        files.update(Path(checkpoint.dirpath or "") / f"{name}.ckpt" for name in names if name)
        files.update(Path(path) for path in written if path)
    return files


def folder_of(trainer: L.Trainer) -> Path | None:
    """The folder of the first, or that of the logger; None when nothing is written."""
    checkpoint = trainer.checkpoint_callback
    folder = checkpoint.dirpath if isinstance(checkpoint, ModelCheckpoint) else None
    log_dir = trainer.log_dir  # asked for by all processes: it is a broadcast
    if folder is None and trainer.logger is not None and log_dir is not None:
        folder = Path(log_dir) / "checkpoints"
    return None if folder is None else Path(folder)


def _callbacks_of(trainer: L.Trainer) -> list[ModelCheckpoint]:
    return [checkpoint for checkpoint in trainer.checkpoint_callbacks if isinstance(checkpoint, ModelCheckpoint)]
