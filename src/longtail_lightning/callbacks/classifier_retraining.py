"""Stage two of decoupled training, at the end of any fit."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._random import isolated_rng
from longtail_lightning.callbacks._banks import bank_of, has_split, num_classes_of, parts_of, probe
from longtail_lightning.callbacks._checkpoints import best_of, files_of, folder_of
from longtail_lightning.callbacks._counts import bounds_of, class_counts_of
from longtail_lightning.callbacks._heads import as_head_of, in_float, loads_by_itself, weight_norms
from longtail_lightning.counts import ClassCounts
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.heads import TauNormalizedHead
from longtail_lightning.methods import Retraining, TauNormalization
from longtail_lightning.methods.retraining import GIVE_VALIDATION, as_methods, no_validation
from longtail_lightning.report.decoupling import plot_methods, plot_tau, plot_weight_norms
from longtail_lightning.report.tables import Row, print_shot_table, shot_row, tau_rows

JOINT = "joint"
_RESERVED = (JOINT, "best", "last", "none")

_log = logging.getLogger(__name__)


class ClassifierRetraining(L.Callback):
    r"""After a fit, balance the classifier on frozen features: cRT, LWS, \(\tau\)-normalization, NCM.

    The backbone sees training and validation images once more; everything else works on the features
    and takes seconds. Each method is evaluated on the validation features, one table compares them
    with the joint training, and the best becomes the model's head. Each is also saved as a
    checkpoint, `crt.ckpt` and so on, beside those of the fit; they test and predict with nothing
    passed.

    Works on any LightningModule that computes `head(backbone(images))`, your own included. There, a result that
    is linear takes the form of the head that it replaces, so that your class loads the checkpoints.
    Of a data module of this library, training images are taken without augmentation; of another, the data
    set of the training loader as it is, and batches go through your `on_after_batch_transfer` as in a validation.

    Nothing is ever chosen on test images. Without validation images nothing can be compared, and what
    cannot be done is told before the training; `test=True` then shows what the methods reach. Of several
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
        save: whether to write a checkpoint per method.
        many: classes with more training images are many-shot; by default as the module says, or 100.
        few: classes with fewer training images are few-shot; by default as the module says, or 20.
        plot: whether to draw accuracy per split, weight norms, and accuracy over tau.

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
        save: bool = True,
        many: int | None = None,
        few: int | None = None,
        plot: bool = True,
    ) -> None:
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
        self.many = many
        self.few = few
        self.plot = plot
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
        self.files: dict[str, str] = {}
        self._tables: list[Callable[[], None]] = []

    # -- before: what cannot work is told before the training, not after it ----------------------

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        head = parts_of(pl_module, "ClassifierRetraining")[1]
        for method in self.methods:
            method.check(head)
        bounds_of(self, pl_module)
        num_classes_of(head, class_counts_of(trainer, pl_module), "ClassifierRetraining")
        self.rows, self.test_rows, self.kept = [], [], None
        self.checkpoints, self.failed, self.files = {}, {}, {}
        self._check_names(trainer)
        if self.test and not has_split(trainer, "test"):
            raise LongTailError("ClassifierRetraining(test=True) needs a data module of this library with test images.")
        if has_split(trainer, "val"):
            return
        if any(method.needs_validation for method in self.methods):
            raise LongTailError(no_validation("tau"))
        if self.keep == "best":
            raise LongTailError(
                f"There are no validation images to choose the best classifier on: {GIVE_VALIDATION}, or say which to "
                f"keep, keep={self.methods[0].name!r} or keep='none'."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Only now are the loaders there.
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._probe(trainer, pl_module)

    def _probe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        probe(trainer, pl_module, "train", views=self.views)
        if has_split(trainer, "val"):
            probe(trainer, pl_module, "val")

    def _check_names(self, trainer: L.Trainer) -> None:
        folder, files = folder_of(trainer), files_of(trainer)
        for method in self.methods:
            if self.save and folder is not None and folder / f"{method.name}.ckpt" in files:
                raise LongTailError(
                    f"{method.name}.ckpt is a file of this trainer's ModelCheckpoint, and would be that of the method "
                    f"{method.name!r} too: give either another name, ModelCheckpoint(filename=...) or name=..."
                )

    # -- after -----------------------------------------------------------------------------------

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_info("ClassifierRetraining needs the whole training set: a fast_dev_run leaves it out.")
            return
        head = parts_of(pl_module, "ClassifierRetraining")[1]
        last = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        modes = [(module, module.training) for module in pl_module.modules()]
        kept: nn.Module | None = None
        try:
            self._load_start(trainer, pl_module)
            with isolated_rng(0):
                kept = self._retrain(trainer, pl_module)
        finally:
            if kept is None:
                pl_module.head = head
                pl_module.load_state_dict(last)
            for module, training in modes:
                module.training = training

    def _load_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        path = best_of(trainer)
        if self.start == "best" and path and Path(path).is_file():
            # This run wrote the file, so it is trusted: hyper-parameters may be any objects.
            pl_module.load_state_dict(torch.load(path, map_location="cpu", weights_only=False)["state_dict"])

    def _retrain(self, trainer: L.Trainer, pl_module: L.LightningModule) -> nn.Module | None:
        """Make, compare and save the heads; gives the one that the module now has, if it is to keep one."""
        old, device = parts_of(pl_module, "ClassifierRetraining")[1], trainer.strategy.root_device
        seconds: dict[str, float] = {}
        with _timed(seconds, "features"):
            train, val, counts = self._banks(trainer, pl_module)
            views = train if self.views == 1 else self._views(trainer, pl_module, train)
        heads, labels = {JOINT: in_float(old)}, {JOINT: "Joint"}
        for method in self.methods:
            with _timed(seconds, method.name):
                made = self._made(trainer, method, heads[JOINT], views if method.uses_views else train, val)
            if made is not None:
                heads[method.name], labels[method.name] = made, method.label(made)
        accuracy = {} if val is None else {name: class_accuracy(head, val, device) for name, head in heads.items()}
        kept = self._choose(accuracy)
        for name in list(heads)[1:]:
            pl_module.head = as_head_of(pl_module, heads[name], old)
            self._save(trainer, pl_module, name, old)
        self.kept = kept or JOINT
        pl_module.head = old
        tested = {}
        if self.test:  # all is chosen
            test = bank_of(trainer, pl_module, "test", num_classes=train.num_classes, dtype=torch.float32)
            tested = {name: class_accuracy(head, test, device) for name, head in heads.items()}
        self._report(trainer, pl_module, counts, heads, labels, accuracy, tested, seconds)
        pl_module.head = old if self.kept == JOINT else as_head_of(pl_module, heads[self.kept], old)
        return None if kept is None else pl_module.head

    def _banks(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> tuple[FeatureBank, FeatureBank | None, ClassCounts]:
        self._probe(trainer, pl_module)  # what has been trained, or was not before
        counts = class_counts_of(trainer, pl_module)
        num_classes = num_classes_of(parts_of(pl_module, "ClassifierRetraining")[1], counts, "ClassifierRetraining")
        train = bank_of(trainer, pl_module, "train", num_classes=num_classes)
        val = None
        if has_split(trainer, "val"):
            # In full precision: the joint row is then what the fit has logged.
            val = bank_of(trainer, pl_module, "val", num_classes=train.num_classes, dtype=torch.float32)
        return train, val, counts or train.class_counts

    def _views(self, trainer: L.Trainer, pl_module: L.LightningModule, train: FeatureBank) -> FeatureBank:
        if not any(method.uses_views for method in self.methods):
            return train
        return bank_of(trainer, pl_module, "train", num_classes=train.num_classes, views=self.views, dtype=train.dtype)

    def _made(
        self, trainer: L.Trainer, method: Retraining, head: nn.Module, train: FeatureBank, val: FeatureBank | None
    ) -> nn.Module | None:
        """What a method makes, the same in all processes; None when it fails, which leaves the others their results."""
        made, reason = None, "another process tells why"
        try:
            made = method(head, train, val, device=trainer.strategy.root_device)
        except LongTailError as error:
            reason = str(error)
        except Exception as error:
            # A part of the user's own may raise anything; whoever wrote it wants to know where.
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _log.warning("%s failed:", method.name, exc_info=error)
        if not trainer.strategy.reduce_boolean_decision(made is not None) or made is None:
            self.failed[method.name] = reason
            rank_zero_warn(f"{method.name} failed, so the comparison is without it: {reason}")
            return None
        # All processes did the same work; rounding must not part them.
        made.load_state_dict(trainer.strategy.broadcast(made.state_dict()))
        return made

    def _choose(self, accuracy: dict[str, Tensor]) -> str | None:
        if self.keep == "none" or self.keep in self.failed:
            return None
        if self.keep != "best":
            return self.keep
        # The first of equals: the joint classifier stays unless another is better.
        return max(accuracy, key=lambda name: float(accuracy[name].nanmean()))

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule, name: str, old: nn.Module) -> None:
        folder = folder_of(trainer)
        if not self.save or folder is None:
            return
        path = folder / f"{name}.ckpt"
        while path in files_of(trainer):  # by a name that was not known before
            path = path.with_stem(f"{path.stem}-retrained")
        self.checkpoints[name] = str(path)
        # Without the optimizer, whose state is that of the old head.
        trainer.save_checkpoint(self.checkpoints[name], weights_only=True)
        head, owner = parts_of(pl_module, "Saving")[1], type(pl_module).__name__
        if not loads_by_itself(pl_module, head, old):
            rank_zero_warn(
                f"{path.name} holds a {type(head).__name__}, which {owner} does not build by itself: assign such a "
                "head to it before the checkpoint is loaded, or make the class a child of BaseClassifier."
            )

    # -- reporting -------------------------------------------------------------------------------

    def _report(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        counts: ClassCounts,
        heads: dict[str, nn.Module],
        labels: dict[str, str],
        accuracy: dict[str, Tensor],
        tested: dict[str, Tensor],
        seconds: dict[str, float],
    ) -> None:
        log_dir = trainer.log_dir  # asked for by all processes: it is a broadcast
        many, few = bounds_of(self, pl_module)
        splits = counts.shots(many=many, few=few)
        self.rows, self.test_rows = (
            [shot_row(labels[name], values, splits) for name, values in found.items()] for found in (accuracy, tested)
        )
        for method in self.methods:
            if isinstance(method, TauNormalization) and (found := method.selection) is not None:
                # It knows of no bounds.
                method.selection = replace(found, table=tau_rows(found.taus, found.per_class, splits))
        if not trainer.is_global_zero:
            return
        missing = [Row(f"{name} failed", None, None, None, None) for name in self.failed]
        caption = "\n".join(f"{name}: {reason}" for name, reason in self.failed.items()) or None
        self._tables = [
            partial(print_shot_table, f"{name} accuracy by classifier", [*rows, *missing], counts, splits, caption)
            for name, rows in (("Validation", self.rows), ("Test", self.test_rows))
            if rows
        ]
        if trainer.logger is None or log_dir is None:
            return
        folder = Path(log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "rows": [row.as_dict() for row in self.rows],
            "test_rows": [row.as_dict() for row in self.test_rows],
            "kept": self.kept,
            "failed": self.failed,
            "tau": {name: head.tau for name, head in heads.items() if isinstance(head, TauNormalizedHead)},
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "checkpoints": self.checkpoints,
            "class_counts": counts.tolist(),
            "per_class": {
                labels[name]: [None if value != value else round(value, 6) for value in values.tolist()]
                for name, values in accuracy.items()
            },
        }
        self.files["retraining"] = str(folder / "retraining.json")
        Path(self.files["retraining"]).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if self.plot:
            self._draw(folder, counts, {labels[name]: head for name, head in heads.items()})

    def _draw(self, folder: Path, counts: ClassCounts, heads: dict[str, nn.Module]) -> None:
        if rows := self.rows or self.test_rows:
            self.files["bars"] = str(folder / "retraining.png")
            plot_methods(rows, self.files["bars"], title=f"{'Validation' if self.rows else 'Test'} accuracy")
        norms = {label: values for label, head in heads.items() if (values := weight_norms(head)) is not None}
        if norms:
            self.files["norms"] = str(folder / "weight_norms.png")
            plot_weight_norms(norms, counts, self.files["norms"])
        for method in self.methods:
            if not isinstance(method, TauNormalization) or (found := method.selection) is None:
                continue
            path = self.files[f"{method.name}_plot"] = str(folder / f"{method.name}.png")
            title = f"{'Validation' if method.choose == 'val' else 'Training'} accuracy over tau"
            plot_tau(found.table, found.tau, path, title=title)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Only now is the progress bar gone, which would be drawn over the table.
        for show in self._tables:
            show()
        self._tables = []


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin
