"""What each branch of a model is right about."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor

from longtail_lightning.callbacks._counts import class_counts_of, datamodule_of, shot_splits_of
from longtail_lightning.callbacks._reporting import ReportingCallback, log_folder
from longtail_lightning.counts import split_means
from longtail_lightning.metrics import PerClassAccuracy
from longtail_lightning.report import Comparison
from longtail_lightning.report.comparison import Files
from longtail_lightning.report.plots import plot_moving_averages

_BOTH = "both"


class BranchReport(ReportingCallback):
    """Log the accuracy of each branch on each split, and end a test with a table and a curve over the classes.

    Reads what evaluation steps return beside `"logits"`: `{"base": logits, "retrieval": logits, "target": labels}`.
    `branches_test.json` and `branches_test.png` go to the log folder, those of a validation alike. Steps that return
    no branch are left alone.

    Args:
        branches: keys of the branches.
        window: classes that the curve averages over, most training images first.

    Examples:
        >>> trainer = L.Trainer(callbacks=[BranchReport()], logger=False)

    **Paper.** Long et al., Retrieval Augmented Classification, CVPR 2022, figures 2 and S2.
    """

    def __init__(self, branches: Sequence[str] = ("base", "retrieval"), *, window: int = 20) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.window = window
        self._metrics: dict[str, PerClassAccuracy] = {}

    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (counts := class_counts_of(trainer, pl_module)) is not None:
            names = (*self.branches, _BOTH)
            self._metrics = {name: PerClassAccuracy(counts.num_classes).to(pl_module.device) for name in names}

    def _count(self, outputs: Any) -> None:
        if not isinstance(outputs, dict) or "target" not in outputs:
            return
        found = {**outputs, _BOTH: outputs.get("logits")}
        if all(isinstance(found.get(name), Tensor) for name in self._metrics):
            for name, metric in self._metrics.items():
                metric.update(found[name], outputs["target"])

    def _finish(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        counts, metrics = class_counts_of(trainer, pl_module), self._metrics
        self._metrics = {}
        # All processes compute: the sums are those of all of them.
        per_class = {name: metric.compute().cpu() for name, metric in metrics.items() if metric.update_called}
        if counts is None or not per_class:
            return
        splits = shot_splits_of(self, pl_module, counts)
        prefix = "test" if stage == "test" else "val"
        for name in self.branches:
            for group, value in split_means(per_class[name], splits).items():
                key = f"{prefix}/{name}_acc" + ("" if group == "all" else f"_{group}")
                pl_module.log(key, torch.nan if value is None else value, sync_dist=True)
        if stage != "fit":
            self._report(trainer, pl_module, stage, per_class)

    def _report(
        self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str, per_class: dict[str, Tensor]
    ) -> None:
        counts, folder = class_counts_of(trainer, pl_module), log_folder(trainer)
        if counts is None or not trainer.is_global_zero:
            return
        names = getattr(pl_module, "class_names", None) or getattr(datamodule_of(trainer), "class_names", None)
        title = f"{'Test' if stage == 'test' else 'Validation'} accuracy of each branch"
        comparison = Comparison(title, per_class, counts, shot_splits_of(self, pl_module, counts), names)
        if folder is not None:  # a run without logs is a step in a script: what is logged is enough
            self.print_later(comparison)
            draw = partial(plot_moving_averages, comparison, self.window)
            files: Files = {"branches": f"branches_{stage}.json", "plot of branches": (f"branches_{stage}.png", draw)}
            self.files |= comparison.save(folder, files)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if dataloader_idx == 0:
            self._count(outputs)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if dataloader_idx == 0:
            self._count(outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "validate" if trainer.state.fn == "validate" else "fit")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "test")
