"""Accuracy over tau, at the end of a fit or a validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import torch
from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._backbone_and_head import backbone_and_head
from longtail_lightning.callbacks._banks import bank_of, has_split, num_classes_of, probe
from longtail_lightning.callbacks._counts import bounds_of, class_counts_of
from longtail_lightning.callbacks._reporting import ReportingCallback, log_folder
from longtail_lightning.callbacks.classifier_retraining import ClassifierRetraining
from longtail_lightning.counts import Convention
from longtail_lightning.heads.tau_normalized import BiasPolicy, linear_of
from longtail_lightning.methods import TauSelection, select_tau
from longtail_lightning.methods.base import GIVE_VALIDATION
from longtail_lightning.methods.tau_selection import TAUS, check_taus
from longtail_lightning.report.curve import CurveComparison


class TauSweep(ReportingCallback):
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
        convention: side of these bounds, `"kang"` (>, <) or `"oltr"` (>=, <=); by default as the module says.
        plot: whether to draw the curve.
        backbone: where the module has what gives features, a dotted name.
        head: where it has the linear classifier, a dotted name.

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
        convention: Convention | None = None,
        plot: bool = True,
        backbone: str = "backbone",
        head: str = "head",
    ) -> None:
        super().__init__()
        if split not in ("val", "train"):
            raise LongTailError(f"split={split!r}: tau is swept on 'val' or 'train', never on test images.")
        self.taus = check_taus(taus, bias)
        self.split = split
        self.bias = bias
        self.many = many
        self.few = few
        self.convention = convention
        self.plot = plot
        self.backbone = backbone
        self.head = head
        self.selection: TauSelection | None = None
        """What the last sweep found."""

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
            probe(trainer, pl_module, self.split, backbone=self.backbone, head=self.head)

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
        head = self._head(pl_module)
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
        parts: dict[str, Any] = {"backbone": self.backbone, "head": self.head}
        probe(trainer, pl_module, self.split, **parts)  # again after a training, which may have changed the module
        head = self._head(pl_module)
        counts = class_counts_of(trainer, pl_module)
        num_classes = num_classes_of(head, counts, "TauSweep")
        bank = bank_of(trainer, pl_module, self.split, num_classes=num_classes, dtype=torch.float32, **parts)
        bounds = bounds_of(self, pl_module)
        counts = counts or bank.class_counts
        found = select_tau(head, bank, self.taus, class_counts=counts, bias=self.bias, **bounds)
        self.selection = found
        folder = log_folder(trainer)
        if not trainer.is_global_zero:
            return
        comparison = CurveComparison(found.curve(self.split), counts, counts.shots(**bounds))
        self.print_later(comparison)
        if folder is not None:
            self.files |= comparison.save_all(folder, "tau_sweep", plot=self.plot, bias=self.bias)

    def _head(self, pl_module: L.LightningModule) -> nn.Module:
        return backbone_and_head(pl_module, "TauSweep", self.backbone, self.head)[1]
