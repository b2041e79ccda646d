"""The table and the plot at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from longtail_lightning.callbacks._counts import bounds_of, class_counts_of
from longtail_lightning.metrics import PerClassAccuracy
from longtail_lightning.report.plots import plot_per_class_accuracy
from longtail_lightning.report.tables import Row, print_shot_table, shot_row


class LongTailReport(L.Callback):
    """End a fit, validate or test with a table per split and a plot per class.

    Watches the logits that leave `.head`, so it works on any module with a head, your own included.
    The files `report_<stage>.json` and `per_class_accuracy_<stage>.png` go to the log folder.

    Args:
        many: classes with more training images are many-shot; by default as the module says, or 100.
        few: classes with fewer training images are few-shot; by default as the module says, or 20.
        plot: whether to draw the PNG.

    Examples:
        >>> trainer = L.Trainer(callbacks=[LongTailReport()], logger=False)
    """

    def __init__(self, many: int | None = None, few: int | None = None, plot: bool = True) -> None:
        self.many = many
        self.few = few
        self.plot = plot
        self.files: dict[str, str] = {}
        self.rows: list[Row] = []
        self._metric: PerClassAccuracy | None = None
        self._logits: Tensor | None = None
        self._handle: Any = None
        self._print: Callable[[], None] | None = None
        self._loaded: dict[str, list[float]] = {}
        self._history: dict[str, list[float]] = {}  # epoch -> per-class accuracy on validation

    # -- watching --------------------------------------------------------------------------------

    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        counts = class_counts_of(trainer, pl_module)
        head = getattr(pl_module, "head", None)
        if counts is None or head is None:
            return
        self._metric = PerClassAccuracy(counts.num_classes).to(pl_module.device)
        self._handle = head.register_forward_hook(self._remember)

    def _remember(self, _module: Any, _inputs: Any, logits: Tensor) -> None:
        self._logits = logits.detach()

    def _count(self, batch: Any) -> None:
        # Batches in a form of their own, and further loaders, are left out: a report must not end a run.
        if self._metric is not None and self._logits is not None and isinstance(batch, (list, tuple)):
            self._metric.update(self._logits, batch[1])
        self._logits = None

    def _finish(self) -> Tensor | None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        if self._metric is None:
            return None
        per_class = self._metric.compute().cpu()
        self._metric = None
        return per_class

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
            self._count(batch)

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
            self._count(batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        per_class = self._finish()
        if per_class is None or trainer.sanity_checking:
            return
        if trainer.state.fn == "fit":
            self._history[str(trainer.current_epoch)] = per_class.tolist()
        else:
            self._report(trainer, pl_module, "validate", {"validation": per_class})

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        per_class = self._finish()
        if per_class is not None:
            self._report(trainer, pl_module, "test", {"test": per_class})

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle, self._metric = None, None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A second fit with the same callback starts anew; a resumed one keeps what was loaded.
        self._history, self._loaded = self._loaded, {}

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._history:
            return
        epochs = sorted(self._history, key=int)
        results = {f"epoch {epochs[-1]}, last": torch.tensor(self._history[epochs[-1]])}
        best = self._best_epoch(trainer)
        if best is not None and best != epochs[-1]:
            results[f"epoch {best}, best"] = torch.tensor(self._history[best])
        self._report(trainer, pl_module, "fit", results)

    def _best_epoch(self, trainer: L.Trainer) -> str | None:
        checkpoint = trainer.checkpoint_callback
        if not isinstance(checkpoint, ModelCheckpoint) or checkpoint.monitor != "val/acc":
            return None
        means = {epoch: torch.tensor(values).nanmean().item() for epoch, values in self._history.items()}
        return max(means, key=lambda epoch: (means[epoch], -int(epoch)))

    # -- reporting -------------------------------------------------------------------------------

    def _report(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str, results: dict[str, Tensor]) -> None:
        counts = class_counts_of(trainer, pl_module)
        log_dir = trainer.log_dir  # asked for by all processes: it is a broadcast
        if counts is None or not trainer.is_global_zero:
            return
        many, few = bounds_of(self, pl_module)
        splits = counts.shots(many=many, few=few)
        self.rows = [shot_row(name, per_class, splits) for name, per_class in results.items()]
        title = {"fit": "Validation accuracy", "validate": "Validation accuracy", "test": "Test accuracy"}[stage]
        self._print = partial(print_shot_table, title, self.rows, counts, splits)
        if trainer.logger is None or log_dir is None or getattr(trainer, "fast_dev_run", False):
            return
        folder = Path(log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        datamodule = getattr(trainer, "datamodule", None)
        names, subset = getattr(datamodule, "class_names", None), getattr(datamodule, "subset_id", None)
        record = {
            "subset": None if subset is None else str(subset),
            "rows": [row.as_dict() for row in self.rows],
            "class_counts": counts.tolist(),
            "class_names": names,
            "per_class": {
                name: [None if value != value else round(value, 6) for value in per_class.tolist()]
                for name, per_class in results.items()
            },
        }
        self.files["report"] = str(folder / f"report_{stage}.json")
        Path(self.files["report"]).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if self.plot:
            self.files["plot"] = str(folder / f"per_class_accuracy_{stage}.png")
            plot_per_class_accuracy(results, counts, splits, self.files["plot"], title=title)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Only now is the progress bar gone, which would be drawn over the table.
        if self._print is not None:
            self._print()
            self._print = None

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = dict(state_dict["history"])
