"""Stage two of decoupled training, at the end of any fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._random import temporary_seed
from longtail_lightning.callbacks._backbone_and_head import backbone_and_head
from longtail_lightning.callbacks._banks import bank_of, has_split, num_classes_of, probe
from longtail_lightning.callbacks._candidates import JOINT, Candidates
from longtail_lightning.callbacks._checkpoints import files_of, folder_of, load_best
from longtail_lightning.callbacks._counts import bounds_of, class_counts_of, shot_splits_of
from longtail_lightning.callbacks._heads import loads_by_itself, replacement_for
from longtail_lightning.callbacks._reporting import ReportingCallback, log_folder
from longtail_lightning.callbacks._retraining_report import comparisons_of, save_report
from longtail_lightning.counts import Convention
from longtail_lightning.features import FeatureBank
from longtail_lightning.methods import Retraining
from longtail_lightning.methods.base import GIVE_VALIDATION
from longtail_lightning.methods.by_name import as_methods
from longtail_lightning.report import Comparison
from longtail_lightning.report.comparison import Row

_RESERVED = (JOINT, "best", "last", "none")


class ClassifierRetraining(ReportingCallback):
    r"""After a fit, balance the classifier on frozen features: cRT, LWS, \(\tau\)-normalization, NCM.

    The backbone sees training and validation images once more; everything else works on the features
    and takes seconds. Each method is evaluated on the validation features, one table compares them
    with the joint training, and the best becomes the model's head. Each is also saved as a
    checkpoint, `crt.ckpt` and so on, beside those of the fit; they test and predict with nothing
    passed.

    Works on any LightningModule that computes `head(backbone(images))`, your own included, whatever it calls the
    two. There, a result that is linear takes the form of the head that it replaces, so that your class loads the
    checkpoints.
    Training images from a data module of this library are not augmented. From another, the data set of the
    training loader is taken as it is; batches go through your `on_after_batch_transfer` as in a validation.

    Nothing is ever chosen on test images. Without validation images nothing can be compared, and you
    are told before the training; `test=True` then shows what the methods reach. Of several
    validation loaders, the first is used.

    **Testing.** The best checkpoint of the fit has the joint head, so `trainer.test(ckpt_path="best")` tests that.
    For the head that was kept, pass no path, or its own one: `retraining.checkpoints[retraining.kept]`.

    **A model that is trained already.** Load its checkpoint, `MyModel.load_from_checkpoint(path)`, and fit with
    `Trainer(max_epochs=0, callbacks=[ClassifierRetraining()])`: nothing is trained but the second stage.

    Args:
        methods: `"crt"`, `"lws"`, `"tau"`, `"ncm"`, or configured ones such as `CRT(epochs=30)`; one alone
            needs no list.
        keep: what becomes the model's head: `"best"` on validation (the joint one, if nothing is better),
            the name of a method, or `"none"`, which leaves the model as the fit did, and so does a method that fails.
        start: weights to begin from: the `"best"` checkpoint of the fit, if it saved any, by the first
            `ModelCheckpoint` that has a `monitor`; or the `"last"`.
        test: also evaluate each method on the test images, once everything is chosen: a second table, on which
            nothing depends.
        views: how often cRT and LWS see each training image, differently augmented each time when more than once; one
            more pass each.
        save: whether to write a checkpoint per method, or `"kept"`: of the one that is kept.
        within: also show accuracy among the classes of each split alone: how well they are told apart, whichever
            split is named more often.
        many: classes with more training images are many-shot; by default as the module says, or 100.
        few: classes with fewer training images are few-shot; by default as the module says, or 20.
        convention: side of these bounds, `"kang"` (>, <) or `"oltr"` (>=, <=); by default as the module says.
        plot: whether to draw accuracy per split, weight norms, and accuracy over tau.
        backbone: where the module has what gives features, a dotted name such as `"net.encoder"`.
        head: where it has what makes logits of them, a dotted name.

    Examples:
        >>> trainer = L.Trainer(callbacks=[ClassifierRetraining(["crt", "tau"])], logger=False)

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020.

    **Differences from the authors' code.** Theirs runs the backbone in every epoch of the second stage,
    with its batch norms in training mode (see `Decoupled`), and leaves the choice of \(\tau\) to the reader.
    """

    def __init__(
        self,
        methods: str | Retraining | Sequence[str | Retraining] = ("crt", "lws", "tau", "ncm"),
        *,
        keep: str = "best",
        start: Literal["best", "last"] = "best",
        test: bool = False,
        views: int = 1,
        save: bool | Literal["kept"] = True,
        within: bool = False,
        many: int | None = None,
        few: int | None = None,
        convention: Convention | None = None,
        plot: bool = True,
        backbone: str = "backbone",
        head: str = "head",
    ) -> None:
        super().__init__()
        self.methods = as_methods(methods)
        names = [method.name for method in self.methods]
        if taken := [name for name in names if name in _RESERVED]:
            raise LongTailError(
                f"A method cannot be called {taken[0]!r}, which means something else here: give it another name, "
                "name=..."
            )
        if keep not in ("best", "none", *names):
            raise LongTailError(f"keep={keep!r} is none of the methods. {did_you_mean(keep, ['best', 'none', *names])}")
        if start not in ("best", "last"):
            raise LongTailError(f"Unknown start={start!r}: choose 'best' or 'last'.")
        if views < 1:
            raise LongTailError(f"views={views} must be at least 1: each image is seen once or more.")
        self.keep = keep
        self.start = start
        self.test = test
        self.views = views
        self.save = save
        self.within = within
        self.many = many
        self.few = few
        self.convention = convention
        self.plot = plot
        self.backbone = backbone
        self.head = head
        self.rows: list[Row] = []
        """One evaluation per method on validation images, the joint training first."""
        self.test_rows: list[Row] = []
        """The same on test images, when they are asked for."""
        self.kept: str | None = None
        """Name of the method whose head the model has; `"joint"` for its own."""
        self.checkpoints: dict[str, str] = {}
        """Name of a method -> its checkpoint."""
        self.failed: dict[str, str] = {}
        """Name of a method that could not be finished -> why."""
        self.details: dict[str, dict[str, Any]] = {}
        """Name of a method -> what it tells of its result, such as the tau that it chose."""

    # -- before the training: refuse what cannot work ---------------------------------------------

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        head, validation = self._head(pl_module), has_split(trainer, "val")
        bounds_of(self, pl_module)
        num_classes_of(head, class_counts_of(trainer, pl_module), "ClassifierRetraining")
        for method in self.methods:
            method.check(head, validation=validation)
        self.rows, self.test_rows, self.kept = [], [], None
        self.checkpoints, self.failed, self.details, self.files = {}, {}, {}, {}
        self._check_names(trainer)
        if self.test and not has_split(trainer, "test"):
            raise LongTailError("ClassifierRetraining(test=True) needs a data module of this library with test images.")
        if self.keep == "best" and not validation:
            raise LongTailError(
                f"There are no validation images to choose the best classifier on: {GIVE_VALIDATION}, or say which to "
                f"keep, keep={self.methods[0].name!r} or keep='none'."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning makes the loaders after `on_fit_start`.
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._probe(trainer, pl_module)

    def _probe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        probe(trainer, pl_module, "train", views=self.views, backbone=self.backbone, head=self.head)
        if has_split(trainer, "val"):
            probe(trainer, pl_module, "val", backbone=self.backbone, head=self.head)

    def _check_names(self, trainer: L.Trainer) -> None:
        folder, files = folder_of(trainer), files_of(trainer)
        for method in self.methods:
            if self.save and folder is not None and folder / f"{method.name}.ckpt" in files:
                raise LongTailError(
                    f"{method.name}.ckpt is a file of this trainer's ModelCheckpoint, and would be that of the method "
                    f"{method.name!r} too: give either another name, ModelCheckpoint(filename=...) or name=..."
                )

    # -- after the training -----------------------------------------------------------------------

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_info("ClassifierRetraining needs the whole training set: a fast_dev_run leaves it out.")
            return
        head = self._head(pl_module)
        last = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        modes = [(module, module.training) for module in pl_module.modules()]
        kept: nn.Module | None = None
        try:
            if self.start == "best":
                load_best(trainer, pl_module)
            with temporary_seed(0):
                kept = self._retrain(trainer, pl_module)
        finally:
            if kept is None:
                pl_module.set_submodule(self.head, head)
                pl_module.load_state_dict(last)
            for module, training in modes:
                module.training = training

    def _retrain(self, trainer: L.Trainer, pl_module: L.LightningModule) -> nn.Module | None:
        """Make, compare and save the heads; return the one that the module is to keep, if any."""
        old = self._head(pl_module)
        candidates = Candidates(trainer, old)
        with candidates.timed("features"):
            train, views, val = self._banks(trainer, pl_module)
        for method in self.methods:
            candidates.add(method, views if method.uses_views else train, val)
            if method.name in candidates.failed:
                reason = candidates.failed[method.name]
                rank_zero_warn(f"{method.name} failed, so the comparison is without it: {reason}")
        self.failed = candidates.failed
        accuracy = candidates.accuracy(val)
        kept = candidates.choose(self.keep, accuracy)
        self.kept = kept or JOINT
        heads = {
            name: old if name == JOINT else replacement_for(pl_module, found.head, old, self.head)
            for name, found in candidates.found.items()
        }
        for name in list(heads)[1:]:
            if self.save == "kept" and name != kept:
                continue
            pl_module.set_submodule(self.head, heads[name])
            self._save(trainer, pl_module, name, old)
        pl_module.set_submodule(self.head, old)
        test = None
        if self.test:  # everything is chosen
            test = self._bank(trainer, pl_module, "test", num_classes=train.num_classes, dtype=torch.float32)
        counts = class_counts_of(trainer, pl_module) or train.class_counts
        splits = shot_splits_of(self, pl_module, counts)
        groups = splits.numbers() if self.within else None
        both = [
            (found, candidates.accuracy(bank, groups=groups) if self.within else {})
            for found, bank in ((accuracy, val), (candidates.accuracy(test), test))
        ]
        self._report(trainer, candidates, *comparisons_of(candidates, counts, splits, *both))
        pl_module.set_submodule(self.head, heads[self.kept])
        return None if kept is None else heads[kept]

    def _banks(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> tuple[FeatureBank, FeatureBank, FeatureBank | None]:
        """Training features, several augmented views of them, and validation features."""
        self._probe(trainer, pl_module)  # once more: the training may have changed the module
        counts = class_counts_of(trainer, pl_module)
        num_classes = num_classes_of(self._head(pl_module), counts, "ClassifierRetraining")
        train = self._bank(trainer, pl_module, "train", num_classes=num_classes)
        views, val, options = train, None, {"num_classes": train.num_classes}
        if has_split(trainer, "val"):
            # In full precision, so that the joint row equals what the fit logged.
            val = self._bank(trainer, pl_module, "val", dtype=torch.float32, **options)
        if self.views > 1 and any(method.uses_views for method in self.methods):
            views = self._bank(trainer, pl_module, "train", views=self.views, dtype=train.dtype, **options)
        return train, views, val

    def _bank(self, trainer: L.Trainer, pl_module: L.LightningModule, split: Any, **options: Any) -> FeatureBank:
        return bank_of(trainer, pl_module, split, backbone=self.backbone, head=self.head, **options)

    def _head(self, pl_module: L.LightningModule) -> nn.Module:
        return backbone_and_head(pl_module, "ClassifierRetraining", self.backbone, self.head)[1]

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule, name: str, old: nn.Module) -> None:
        folder = folder_of(trainer)
        if not self.save or folder is None:
            return
        path = folder / f"{name}.ckpt"
        while path in files_of(trainer):  # ModelCheckpoint chose this name during the fit
            path = path.with_stem(f"{path.stem}-retrained")
        self.checkpoints[name] = str(path)
        # Without the optimizer, whose state is that of the old head.
        trainer.save_checkpoint(self.checkpoints[name], weights_only=True)
        head, owner = self._head(pl_module), type(pl_module).__name__
        if not loads_by_itself(pl_module, head, old, self.head):
            rank_zero_warn(
                f"{path.name} holds a {type(head).__name__}, which {owner} does not build by itself: assign such a "
                "head to it before the checkpoint is loaded, or make the class a child of BaseClassifier."
            )

    def _report(self, trainer: L.Trainer, candidates: Candidates, val: Comparison, test: Comparison) -> None:
        self.rows, self.test_rows = val.rows, test.rows
        self.details = val.record()["details"]
        folder = log_folder(trainer)
        if not trainer.is_global_zero:
            return
        for comparison in (val, test):
            if comparison.per_class:
                self.print_later(comparison)
        if folder is not None:
            record = {"kept": self.kept, "checkpoints": self.checkpoints}
            self.files |= save_report(folder, candidates, val, test, plot=self.plot, **record)
