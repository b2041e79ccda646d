"""Accuracy over tau, at the end of a fit or a validation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import lightning as L
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._banks import bank_of, has_split, num_classes_of, parts_of, probe
from longtail_lightning.callbacks._counts import bounds_of, class_counts_of
from longtail_lightning.callbacks.classifier_retraining import ClassifierRetraining
from longtail_lightning.heads.tau_normalized import BiasPolicy, linear_of
from longtail_lightning.methods import TauSelection, select_tau
from longtail_lightning.methods.retraining import GIVE_VALIDATION
from longtail_lightning.methods.tau import TAUS, check_taus
from longtail_lightning.report.decoupling import plot_tau
from longtail_lightning.report.tables import print_shot_table, shot_row, tau_rows


class TauSweep(L.Callback):
    r"""Show what \(\tau\)-normalization would do to a trained linear classifier, at every \(\tau\).

    One pass over the images, one set of logits for all values. Ends a fit or a validation with a table,
    `tau_sweep.json` and `tau_sweep.png` in the log folder, and leaves the model as it is. Test images are
    never looked at, and of several validation loaders only the first. `ltl tau` writes the classifier with the
    best \(\tau\); `ClassifierRetraining` compares it with others.

    Args:
        taus: values to try.
        split: `"val"`, or `"train"`, where the mean accuracy over the classes stands in for a balanced test set.
        bias: `"drop"`, as in the paper, or `"keep"`.
        many: classes with more training images are many-shot; by default as the module says, or 100.
        few: classes with fewer training images are few-shot; by default as the module says, or 20.
        plot: whether to draw the curve.

    Examples:
        >>> trainer = L.Trainer(callbacks=[TauSweep()], logger=False)

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, figure 2 and appendix B.5.

    **Differences from the authors' code.** Theirs prints the same for the test set beside it.
    """

    def __init__(
        self,
        taus: Sequence[float] = TAUS,
        *,
        split: Literal["val", "train"] = "val",
        bias: BiasPolicy = "drop",
        many: int | None = None,
        few: int | None = None,
        plot: bool = True,
    ) -> None:
        if split not in ("val", "train"):
            raise LongTailError(f"split={split!r}: tau is swept on 'val' or 'train', never on test images.")
        self.taus = check_taus(taus, bias)
        self.split = split
        self.bias = bias
        self.many = many
        self.few = few
        self.plot = plot
        self.selection: TauSelection | None = None
        """What the last sweep found."""
        self.files: dict[str, str] = {}
        self._print: Callable[[], None] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check(trainer, pl_module)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(x, ClassifierRetraining) and x.keep != "none" for x in callbacks[: callbacks.index(self)]):
            raise LongTailError(
                "TauSweep comes after ClassifierRetraining, which replaces the head that is to be swept: put TauSweep "
                "before it in the callbacks."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            probe(trainer, pl_module, self.split)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._check(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._sweep(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._sweep(trainer, pl_module)

    def _check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        head = parts_of(pl_module, "TauSweep")[1]
        linear_of(head, "TauSweep")
        bounds_of(self, pl_module)
        num_classes_of(head, class_counts_of(trainer, pl_module), "TauSweep")
        if has_split(trainer, self.split):
            return
        if self.split == "train":
            raise LongTailError(
                "TauSweep(split='train') has no training images to look at, which a validation with loaders does not "
                "have: pass a data module to trainer.validate, or sweep at the end of a fit."
            )
        raise LongTailError(
            f"TauSweep has no val images to look at: {GIVE_VALIDATION}, or sweep the training features with "
            'TauSweep(split="train").'
        )

    def _sweep(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        probe(trainer, pl_module, self.split)  # what has been trained, or was not before
        head = parts_of(pl_module, "TauSweep")[1]
        counts = class_counts_of(trainer, pl_module)
        num_classes = num_classes_of(head, counts, "TauSweep")
        bank = bank_of(trainer, pl_module, self.split, num_classes=num_classes, dtype=torch.float32)
        many, few = bounds_of(self, pl_module)
        self.selection = select_tau(head, bank, self.taus, class_counts=counts, bias=self.bias, many=many, few=few)
        log_dir = trainer.log_dir  # asked for by all processes: it is a broadcast
        if not trainer.is_global_zero:
            return
        found, counts = self.selection, counts or bank.class_counts
        splits = counts.shots(many=many, few=few)
        title = "Validation accuracy over tau" if self.split == "val" else "Training accuracy over tau"
        rows = [
            shot_row(f"{tau:g}{', best' if tau == found.tau else ''}", values, splits)
            for tau, values in zip(found.taus, found.per_class)
        ]
        self._print = partial(print_shot_table, title, rows, counts, splits)
        if trainer.logger is None or log_dir is None:
            return
        folder = Path(log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        table = tau_rows(found.taus, found.per_class, splits)
        record = {"tau": found.tau, "split": self.split, "bias": self.bias, "rows": table}
        self.files["tau_sweep"] = str(folder / "tau_sweep.json")
        Path(self.files["tau_sweep"]).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if self.plot:
            self.files["tau_plot"] = str(folder / "tau_sweep.png")
            plot_tau(table, found.tau, self.files["tau_plot"], title=title)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Only now is the progress bar gone, which would be drawn over the table.
        if self._print is not None:
            self._print()
            self._print = None
