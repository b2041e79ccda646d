"""A training run that remembers which items it saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from longtail_lightning.datasets.loader import ResumableLoader, SeededDataset
from tests.contracts.discover import LABELS

# One sampler of each way to draw; what they share is in the base class, which the contracts test for all.
KINDS = ["PowerSampler", "ClassAwareSampler", "RepeatFactorSampler"]


class Items(Dataset):
    """Each item is its own index."""

    labels = LABELS

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> int:
        return index


class Recorder(L.LightningModule):
    """Trains nothing to speak of, and notes (epoch, batch, items)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple[int, int, list[int]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append((self.trainer.current_epoch, batch_idx, batch.tolist()))
        return self.layer(batch.float()[:, None]).mean() * 0.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(L.Callback):
    """Saves once so many steps are done, at the hook where `ModelCheckpoint` would."""

    def __init__(self, path: str, step: int, hook: str) -> None:
        self.path, self.step, self.hook = path, step, hook

    def _save(self, trainer: L.Trainer, hook: str) -> None:
        if hook == self.hook and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._save(trainer, "on_train_batch_end")

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._save(trainer, "on_train_epoch_end")


def stops(batches: int) -> dict[str, tuple[int, str]]:
    """Where runs are stopped, for epochs of so many batches: name -> (step, hook)."""
    return {
        "mid-epoch": (batches + 3, "on_train_batch_end"),
        "last batch": (batches, "on_train_batch_end"),
        "epoch end": (batches, "on_train_epoch_end"),
    }


def loader(sampler: Sampler[int] | None, *, batch_size: int = 8, num_workers: int = 0) -> DataLoader[Any]:
    """Resumable batches of items."""
    shuffle = sampler is None
    data = SeededDataset(Items(), 0)
    return ResumableLoader(data, batch_size=batch_size, sampler=sampler, shuffle=shuffle, num_workers=num_workers)


def train(
    make_loader: Callable[[], DataLoader[Any]], *, ckpt_path: str | None = None, epochs: int = 3, **options: Any
) -> Recorder:
    """Fit with everything off but what is asked for."""
    module = Recorder()
    settings = {"max_epochs": epochs, "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    settings |= {"enable_checkpointing": False, "enable_model_summary": False} | options
    L.Trainer(**settings).fit(module, make_loader(), ckpt_path=ckpt_path)
    return module
