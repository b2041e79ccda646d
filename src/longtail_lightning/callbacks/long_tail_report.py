"""The table and the plot at the end of a run."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._counts import class_counts_of, datamodule_of, shot_splits_of
from longtail_lightning.callbacks._outputs import outputs_of
from longtail_lightning.callbacks._reporting import ReportingCallback, log_folder
from longtail_lightning.counts import Convention
from longtail_lightning.metrics import PerClassAccuracy
from longtail_lightning.report import Comparison
from longtail_lightning.report.comparison import Files, Row
from longtail_lightning.report.plots import plot_classes


class LongTailReport(ReportingCallback):
    """End a fit, validate or test with a table per split and a plot per class.

    Reads what `validation_step` and `test_step` return, `{"logits": logits, "target": labels}`, so it works on any
    module that returns them, your own included; of several loaders, the first is reported. If a module returns
    something else, or its class counts cannot be found, a warning says so and the run continues.
    The files `report_<stage>.json` and `per_class_accuracy_<stage>.png` go to the log folder.

    Args:
        many: classes with more training images are many-shot; by default as the module says, or 100.
        few: classes with fewer training images are few-shot; by default as the module says, or 20.
        plot: whether to draw the PNG.
        convention: side of these bounds, `"kang"` (>, <) or `"oltr"` (>=, <=); by default as the module says.

    Examples:
        >>> trainer = L.Trainer(callbacks=[LongTailReport()], logger=False)
    """

    def __init__(
        self,
        many: int | None = None,
        few: int | None = None,
        plot: bool = True,
        *,
        convention: Convention | None = None,
    ) -> None:
        super().__init__()
        self.many = many
        self.few = few
        self.convention = convention
        self.plot = plot
        self.rows: list[Row] = []
        self._metric: PerClassAccuracy | None = None
        self._problem: str | None = None  # why this evaluation has no report
        self._told: set[str] = set()
        self._loaded: dict[str, list[float]] = {}
        self._history: dict[str, list[float]] = {}  # epoch -> per-class accuracy on validation

    # -- counting --------------------------------------------------------------------------------

    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        counts, self._problem = class_counts_of(trainer, pl_module), None
        if counts is not None:
            self._metric = PerClassAccuracy(counts.num_classes).to(pl_module.device)
            return
        self._metric = None
        self._warn(
            f"LongTailReport cannot find the class counts of {type(pl_module).__name__}, so there is no report: set "
            "self.class_counts to its training images per class, or pass a data module with class_counts."
        )

    def _count(self, pl_module: L.LightningModule, step: str, outputs: Any) -> None:
        if self._metric is None or self._problem is not None:
            return
        try:
            found = outputs_of(outputs, pl_module, step, "target")
            self._metric.update(found["logits"], found["target"])
        except LongTailError as error:  # a report must not end a run
            self._problem = str(error)

    def _finish(self, trainer: L.Trainer) -> Tensor | None:
        if (metric := self._metric) is None:
            return None
        self._metric = None
        # `compute` waits for all processes, so each of them must call it.
        if not trainer.strategy.reduce_boolean_decision(self._problem is None):
            self._warn(f"LongTailReport has no report: {self._problem or 'another process tells why.'}")
            return None
        return metric.compute().cpu()

    def _warn(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            rank_zero_warn(message)

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
            self._count(pl_module, "validation_step", outputs)

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
            self._count(pl_module, "test_step", outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        per_class = self._finish(trainer)
        if per_class is None or trainer.sanity_checking:
            return
        if trainer.state.fn == "fit":
            self._history[str(trainer.current_epoch)] = per_class.tolist()
        else:
            self._report(trainer, pl_module, "validate", {"validation": per_class})

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        per_class = self._finish(trainer)
        if per_class is not None:
            self._report(trainer, pl_module, "test", {"test": per_class})

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
        folder = log_folder(trainer)
        if counts is None or not trainer.is_global_zero:
            return
        data = datamodule_of(trainer)
        # A trained model has the names of its own classes, as it has their counts.
        names = getattr(pl_module, "class_names", None) or getattr(data, "class_names", None)
        subset = getattr(data, "subset_id", None)
        title = "Test accuracy" if stage == "test" else "Validation accuracy"
        comparison = Comparison(title, results, counts, shot_splits_of(self, pl_module, counts), names)
        self.rows = comparison.rows
        self.print_later(comparison)
        if folder is None:
            return
        files: Files = {"report": f"report_{stage}.json"}
        if self.plot:
            files["plot"] = (f"per_class_accuracy_{stage}.png", partial(plot_classes, comparison))
        self.files |= comparison.save(folder, files, subset=None if subset is None else str(subset))

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = dict(state_dict["history"])
