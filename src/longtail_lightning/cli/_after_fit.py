"""Print the closing lines of a run: the files that it wrote, and the commands that use them."""

from __future__ import annotations

import shlex
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from longtail_lightning.callbacks import ClassifierRetraining, InterruptCheckpoint, LongTailReport, TauSweep
from longtail_lightning.cli._argv import CONFIG_FILE, config_beside


def say_after_fit(trainer: L.Trainer) -> None:
    """Name the files of a run, and what to do with them."""
    checkpoint, folder = trainer.checkpoint_callback, trainer.log_dir
    if folder is None or not isinstance(checkpoint, ModelCheckpoint):
        return
    best, last = checkpoint.best_model_path or checkpoint.last_model_path, checkpoint.last_model_path
    for other in trainer.checkpoint_callbacks:
        if isinstance(other, ModelCheckpoint) and other.filename == "last":
            last = other.best_model_path
    files = {"checkpoint": best, "last": last}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ClassifierRetraining):
            files |= callback.checkpoints | callback.files
            best = callback.checkpoints.get(str(callback.kept), best)
        if isinstance(callback, (LongTailReport, TauSweep)):
            files |= callback.files
    lines = [f"{name:10}  {_shown(path)}" for name, path in files.items() if path]
    if best:
        lines += [
            "",
            f"test        ltl test --ckpt_path {_shown(best)}",
            f"predict     ltl predict --ckpt_path {_shown(best)} --predictions.path predictions.csv",
            f"repeat      ltl fit --config {_shown(Path(folder) / CONFIG_FILE)}",
        ]
    say("\n".join(lines))


def say_after_interrupt(trainer: L.Trainer) -> None:
    """Name the checkpoint of a fit that was stopped, and the command that goes on."""
    interrupts = [each for each in trainer.callbacks if isinstance(each, InterruptCheckpoint)]  # type: ignore[attr-defined]
    path = interrupts[0].saved if interrupts else None
    if path is None:
        return
    lines = [f"stopped     {_shown(path)}"]
    if (config := config_beside(path)) is not None:
        lines += ["", f"go on       ltl fit --config {_shown(config)} --ckpt_path {_shown(path)}"]
    say("\n".join(lines))


@rank_zero_only
def say(text: str) -> None:
    """Print after an empty line, on the first process alone."""
    print(f"\n{text}")


def _shown(path: str | Path) -> str:
    """A path as one types it: relative to the current folder, if it lies below."""
    path = Path(path).resolve()
    text = (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
    return shlex.quote(text) if " " in text else text
