"""`ltl fit | validate | test | predict`: a LightningCLI whose keys are `model`, `data` and `trainer`."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ActionYesNo
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, ClusterEnvironment, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from longtail_lightning._errors import LongTailError
from longtail_lightning._known_classes import require_known
from longtail_lightning._lightning import checked_imports
from longtail_lightning._rooms import ROOMS
from longtail_lightning.callbacks import (
    InterruptCheckpoint,
    LogitAdjustment,
    LongTailReport,
    NonFiniteOutputGuard,
    PredictionWriter,
)
from longtail_lightning.cli._after_fit import say, say_after_fit, say_after_interrupt
from longtail_lightning.cli._argv import (
    flatten,
    own_words,
    plain_key,
    value_of,
    with_checkpoint_last,
    with_config_of_checkpoint,
    with_recipes,
)
from longtail_lightning.cli._checkpoints import STARTS, Saved, with_model_of_checkpoint
from longtail_lightning.cli._classes import take_classes_of
from longtail_lightning.cli._messages import one_sentence
from longtail_lightning.cli._newest_checkpoint import with_newest_checkpoint
from longtail_lightning.cli._ranks import EndOfRun, end_together
from longtail_lightning.cli._trainer import WithoutForeignCounts, default_checkpoints, with_whole_files
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.modules._description import PARTS

# What the config beside a checkpoint may name: parts, and what a trainer takes.
KINDS = (
    *PARTS,
    L.LightningDataModule,
    L.Callback,
    Logger,
    Profiler,
    Strategy,
    Accelerator,
    CheckpointIO,
    Precision,
    ClusterEnvironment,
    LayerSync,
)
# Callbacks that are always there, with an option of their own each.
OPTIONS: dict[str, type[L.Callback]] = {
    "logit_adjustment": LogitAdjustment,
    "predictions": PredictionWriter,
    "report": LongTailReport,
}
FAIL_ON_NAN = "fail_on_nan"
# A class name without its module is understood only if the module is imported.
for _room in ROOMS:
    import_module(f"longtail_lightning.{_room}")

PARSER: dict[str, Any] = {"exit_on_error": False}  # errors come as exceptions, to be shown as one sentence


class ImportRule:
    """Import nothing that only a checkpoint, or the config beside it, asks for.

    Args:
        args: the command line. What it names, and the configs that it names, is the user's decision.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.named = own_words(args)
        self.active = value_of(args, "--ckpt_path") is not None

    def __call__(self, path: str) -> None:
        if self.active:
            require_known(path, KINDS, self.named)


class LongTailCLI(LightningCLI):
    """LightningCLI with the links, defaults and closing words of this library.

    Args:
        args: the command line.
        rule: what may be imported, if it is in force around this class too.
    """

    def __init__(self, args: list[str], rule: ImportRule | None = None) -> None:
        self.given = args
        self.rule = rule or ImportRule(args)
        self.saved: Saved | None = None
        name = Path(value_of(args, "--config", "-c") or "run").stem
        super().__init__(
            L.LightningModule,
            LongTailDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "logger": {
                    "class_path": "lightning.pytorch.loggers.CSVLogger",
                    "init_args": {"save_dir": "runs", "name": name},
                }
            },
            parser_kwargs={"prog": "ltl", "description": "Train on long-tailed images.", **PARSER}
            | dict.fromkeys(("fit", "validate", "test", "predict"), PARSER),
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data.class_counts",
            "model.init_args.class_counts",
            compute_fn=self._counts_of_model,
            apply_on="instantiate",
        )
        for key, callback in OPTIONS.items():
            parser.add_lightning_class_args(callback, key)
        parser.set_defaults({"logit_adjustment.tau": 0.0})
        parser.add_argument(
            f"--{FAIL_ON_NAN}",
            action=ActionYesNo,
            default=False,
            help="Whether outputs of the model that are not finite end the run with an error.",
        )

    def _counts_of_model(self, counts: ClassCounts) -> list[int]:
        """A new model takes the class counts of the data; a trained one has its own, outside `fit`."""
        own = self.saved.class_counts if self.saved is not None else None
        return counts.tolist() if own is None else own

    def _parse_ckpt_path(self) -> None:
        """Take the model's settings from the checkpoint, and say what they replace.

        Lightning lets them win over config and command line silently, and fails on checkpoints
        that were made in Python, which hold no class path: there, the config says what the model is.
        """
        options = self.config.get(self.config.get("subcommand") or "", {})
        path = options.get("ckpt_path")
        if not path or not Path(path).is_file():
            return
        self.rule.active = True
        saved = Saved.of(path)
        if self.config.subcommand != "fit":
            self.saved = saved
        if saved.hparams is None:
            return
        saved.require_known_class(self.rule.named)
        before = dict(self._model_values())
        model = {"class_path": saved.class_path, "dict_kwargs": saved.hparams_of(self.config.subcommand)}
        self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)
        self._tell_replaced(before, dict(self._model_values()))

    def _tell_replaced(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        changed = {key for key in changed if key.rpartition(".")[2] not in STARTS}
        flags = {plain_key(arg.split("=")[0]) for arg in self.given if arg.startswith("--model")}
        flags = {f"{flag}.class_path" if flag == "model" else flag for flag in flags}
        ignored = sorted(f for f in flags if any(key == f or key.startswith(f"{f}.") for key in changed))
        if ignored:
            value = next(after[key] for key in sorted(changed) if key.startswith(ignored[0]))
            flag = ignored[0].removesuffix(".class_path")
            raise LongTailError(
                f"--{flag} has no effect together with --ckpt_path, whose own value ({value!r}) wins: drop the flag"
                + (", or adjust the trained logits with --logit_adjustment.tau." if "tau" in flag else ".")
            )
        if changed:
            rank_zero_warn(f"The checkpoint's own values replace those given for {', '.join(sorted(changed))}.")

    def _model_values(self) -> Iterator[tuple[str, Any]]:
        model = self.config.get(self.config.get("subcommand") or "", {}).get("model")
        if model is not None:
            yield from flatten("model", model.as_dict() if hasattr(model, "as_dict") else model)

    def before_instantiate_classes(self) -> None:
        self.save_config_kwargs["config_filename"] = f"config_{self.subcommand}.yaml"
        options = self.config[self.subcommand]
        if options.trainer.logger is False:
            self.save_config_callback = None  # there is no folder of the run to write it to
        if self.subcommand != "fit" and not options.get("ckpt_path"):
            rank_zero_warn(f"`ltl {self.subcommand}` without --ckpt_path evaluates a model that has not been trained.")

    def after_instantiate_classes(self) -> None:
        if self.saved is not None and self.saved.class_counts is not None:
            take_classes_of(self.saved, self.datamodule)
            return
        # jsonargparse silently lets the link win over a value from the user.
        given = dict(self._model_values()).get("model.class_counts")
        counts = self.datamodule.class_counts
        if given is not None and ClassCounts(given) != counts:
            told = f"model.class_counts ({ClassCounts(given)!r}) differ from those of the data ({counts!r})"
            if self.subcommand == "fit":
                raise LongTailError(f"{told}: drop them, they are taken from the data.")
            rank_zero_warn(f"{told}: the splits follow the data.")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        options = self.config_init[self.subcommand].trainer
        callbacks = options.get("callbacks") or []
        callbacks = [*(callbacks if isinstance(callbacks, list) else [callbacks]), WithoutForeignCounts(), EndOfRun()]
        wanted = self.subcommand == "fit" and options.get("enable_checkpointing") is not False
        if wanted and not any(isinstance(callback, Checkpoint) for callback in callbacks):
            callbacks += default_checkpoints(self.model, self.datamodule)
        if wanted and not any(isinstance(callback, InterruptCheckpoint) for callback in callbacks):
            callbacks.append(InterruptCheckpoint())
        try:
            trainer = super().instantiate_trainer(**kwargs, callbacks=callbacks, plugins=with_whole_files(options))
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise LongTailError(f"--trainer: {' '.join(str(error).split())[:400]}") from error
        if self.config_init[self.subcommand].get(FAIL_ON_NAN):
            trainer.callbacks.append(NonFiniteOutputGuard())  # type: ignore[attr-defined]
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except SystemExit:  # Lightning's end of a run that Ctrl-C or SIGTERM stops
            say_after_interrupt(self.trainer)
            raise

    def before_predict(self) -> None:
        # The writer keeps what it needs; holding all probabilities as well would fill the memory.
        self.trainer.predict_loop.return_predictions = False

    def after_fit(self) -> None:
        say_after_fit(self.trainer)

    def after_predict(self) -> None:
        say(f"predictions {self.config_init[self.subcommand].predictions.path}")


def run(args: Sequence[str]) -> int:
    """Run one of the four commands."""
    leave_out_advertisements(args[0])
    args = with_newest_checkpoint(list(args))
    rule = ImportRule(args)
    end_together()
    try:
        with checked_imports(rule), one_sentence():
            LongTailCLI(prepared(args), rule)
    except SIGTERMException:  # Lightning exits with status 0, as if the run had finished
        return 128 + signal.SIGTERM
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning makes a status of 1 of it
            return 128 + signal.SIGINT
        raise
    return 0


def prepared(args: list[str]) -> list[str]:
    """Recipes by file, and what a checkpoint says about config and model, where the command line does not."""
    return with_model_of_checkpoint(with_checkpoint_last(with_recipes(with_config_of_checkpoint(args))))


def leave_out_advertisements(command: str) -> None:
    """Hide what the user cannot change: advertisements, and warnings about Lightning's own code."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
    if command != "fit":
        warnings.filterwarnings("ignore", message="The dirpath has changed")  # nothing is saved there
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.* is deprecated")
