"""`ltl fit | validate | test | predict`: a LightningCLI whose keys are `model`, `data` and `trainer`."""

from __future__ import annotations

import inspect
import logging
import shlex
import signal
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import SUPPRESS, ActionConfigFile
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from longtail_lightning._errors import LongTailError
from longtail_lightning._rooms import ROOMS
from longtail_lightning.callbacks import (
    ClassifierRetraining,
    LogitAdjustment,
    LongTailReport,
    PredictionWriter,
    TauSweep,
)
from longtail_lightning.cli._argv import (
    CONFIG_FILE,
    flatten,
    plain_key,
    value_of,
    with_checkpoint_last,
    with_config_of_checkpoint,
    with_recipes,
)
from longtail_lightning.cli._checkpoints import read_checkpoint
from longtail_lightning.cli._messages import one_sentence
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.modules import BaseClassifier
from longtail_lightning.modules._checkpoint import KEY as PARTS

# Callbacks that are always there, with an option of their own each.
_OPTIONS: dict[str, type[L.Callback]] = {
    "logit_adjustment": LogitAdjustment,
    "predictions": PredictionWriter,
    "report": LongTailReport,
}
# Class names alone are understood only of what is imported.
for _room in ROOMS:
    import_module(f"longtail_lightning.{_room}")

# Where the weights of a new run come from; those of a checkpoint are its own.
_STARTS = {"model.pretrained", "model.checkpoint"}

_PARSER: dict[str, Any] = {"exit_on_error": False}  # errors come as exceptions, to be shown as one sentence


class LongTailCLI(LightningCLI):
    """LightningCLI with the links, defaults and closing words of this library."""

    def __init__(self, args: list[str]) -> None:
        self.given = args
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
            parser_kwargs={"prog": "ltl", "description": "Train on long-tailed images.", **_PARSER}
            | dict.fromkeys(("fit", "validate", "test", "predict"), _PARSER),
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data.class_counts", "model.init_args.class_counts", compute_fn=ClassCounts.tolist, apply_on="instantiate"
        )
        for key, callback in _OPTIONS.items():
            parser.add_lightning_class_args(callback, key)
        parser.set_defaults({"logit_adjustment.tau": 0.0})

    def _parse_ckpt_path(self) -> None:
        """Take the model's settings from the checkpoint, and say what they replace.

        Lightning lets them win over config and command line without a word, and fails on checkpoints
        that were made in Python, which hold no class path: there, the config says what the model is.
        """
        options = self.config.get(self.config.get("subcommand") or "", {})
        path = options.get("ckpt_path")
        if not path or not Path(path).is_file():
            return
        saved = read_checkpoint(path).get("hyper_parameters", {})
        class_path = saved.pop("_class_path", None)
        if class_path is None:
            return
        # class_counts come from the data; a module without that argument would not know them.
        hparams = {key: value for key, value in saved.items() if key not in ("_instantiator", "class_counts")}
        before = dict(self._model_values())
        model = {"class_path": class_path, "dict_kwargs": hparams}
        self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)
        self._tell_replaced(before, dict(self._model_values()))

    def _tell_replaced(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        changed = {key for key in before.keys() & after.keys() if before[key] != after[key]} - _STARTS
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
        # jsonargparse lets the link win over a value from the user without a word.
        given = dict(self._model_values()).get("model.class_counts")
        counts = self.datamodule.class_counts
        if given is not None and ClassCounts(given) != counts:
            told = f"model.class_counts ({ClassCounts(given)!r}) differ from those of the data ({counts!r})"
            if self.subcommand == "fit":
                raise LongTailError(f"{told}: drop them, they are taken from the data.")
            rank_zero_warn(f"{told}: the splits follow the data.")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        options = self._get(self.config_init, "trainer", default={})
        callbacks = options.get("callbacks") or []
        callbacks = [*(callbacks if isinstance(callbacks, list) else [callbacks]), _WithoutForeignCounts()]
        wanted = self.subcommand == "fit" and options.get("enable_checkpointing") is not False
        if wanted and not any(isinstance(callback, Checkpoint) for callback in callbacks):
            callbacks += self._default_checkpoints()
        return super().instantiate_trainer(**kwargs, callbacks=callbacks)

    def _default_checkpoints(self) -> list[ModelCheckpoint]:
        # Other modules may log under other names.
        if self.datamodule.dataset("val") is None or not isinstance(self.model, BaseClassifier):
            return [ModelCheckpoint(filename="epoch{epoch}", auto_insert_metric_name=False, save_last=True)]
        best = ModelCheckpoint(
            filename="best", monitor="val/acc", mode="max", auto_insert_metric_name=False, enable_version_counter=False
        )
        # With save_last, Lightning would write it only together with the best: a run could not go on from its last
        # epoch, and one that did would end with another last.ckpt.
        return [best, ModelCheckpoint(filename="last", enable_version_counter=False)]

    def before_predict(self) -> None:
        # The writer keeps what it needs; holding all probabilities as well would fill the memory.
        self.trainer.predict_loop.return_predictions = False

    def after_fit(self) -> None:
        checkpoint = self.trainer.checkpoint_callback
        folder = self.trainer.log_dir
        if folder is None or not isinstance(checkpoint, ModelCheckpoint):
            return
        best, last = checkpoint.best_model_path or checkpoint.last_model_path, checkpoint.last_model_path
        if isinstance(other := self.trainer.checkpoint_callbacks[-1], ModelCheckpoint) and other.filename == "last":
            last = other.best_model_path
        files = {"checkpoint": best, "last": last}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
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
        _say("\n".join(lines))

    def after_predict(self) -> None:
        _say(f"predictions {self._get(self.config_init, 'predictions').path}")


class _WithoutForeignCounts(L.Callback):
    """The linked class counts would be written into every checkpoint, also of modules that do not take them."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        parameters = inspect.signature(type(pl_module).__init__).parameters
        takes = "class_counts" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if not takes:
            pl_module.hparams.pop("class_counts", None)


def run(args: Sequence[str]) -> int:
    """Run one of the four commands."""
    _quiet(args[0])
    with one_sentence():
        try:
            LongTailCLI(_prepared(list(args)))
        except SIGTERMException:  # Lightning leaves with status 0, as if all had been done
            return 128 + signal.SIGTERM
    return 0


def _prepared(args: list[str]) -> list[str]:
    """Recipes by file, and what a checkpoint says about config and model, where the command line does not."""
    args = with_checkpoint_last(with_recipes(with_config_of_checkpoint(args)))
    path = value_of(args, "--ckpt_path")
    told = any(arg.split("=")[0] in ("--config", "-c", "--model") for arg in args)
    if args[0] == "fit" or told or path is None or not Path(path).is_file():
        return args
    saved = read_checkpoint(path)
    # A checkpoint that was made in Python holds no class path; with descriptions of its parts, this one fits.
    default = "longtail_lightning.BaseClassifier" if PARTS in saved else None
    model = saved.get("hyper_parameters", {}).get("_class_path", default)
    return args if model is None else [*args, f"--model={model}"]


class _WithoutTrainer(LongTailCLI):
    """Model and data as for `ltl test`, and nothing is run."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def load_trained(args: Sequence[str]) -> tuple[L.LightningModule, LongTailDataModule]:
    """The model of `--ckpt_path`, with its weights, and the data that `ltl test` would take."""
    _quiet("test")
    prepared = _prepared(["test", *args])
    path = value_of(prepared, "--ckpt_path")
    if path is None or not Path(path).is_file():
        raise LongTailError(f"--ckpt_path {path}: give the file of a checkpoint.")
    with one_sentence():
        cli = _WithoutTrainer([*prepared, "--trainer.logger=false"])
        checkpoint = read_checkpoint(path)
        cli.model.on_load_checkpoint(checkpoint)
        cli.model.load_state_dict(checkpoint["state_dict"], strict=cli.model.strict_loading)
    return cli.model, cli.datamodule


def _shown(path: str | Path) -> str:
    """As it is typed: relative to where the user stands, when it lies below."""
    path = Path(path).resolve()
    text = (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
    return shlex.quote(text) if " " in text else text


@rank_zero_only
def _say(text: str) -> None:
    print(f"\n{text}")


def _quiet(command: str) -> None:
    """Leave out what is not the user's to change: advertisements, and words about Lightning's own code."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
    if command != "fit":
        warnings.filterwarnings("ignore", message="The dirpath has changed")  # nothing is saved there
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.* is deprecated")


def instantiate_data(args: list[str]) -> LongTailDataModule:
    """The data module of `--data ...` or `--config ...`, without a model."""
    parser = LightningArgumentParser(prog="ltl counts", **_PARSER)
    parser.add_argument("-c", "--config", action=ActionConfigFile)
    parser.add_lightning_class_args(LongTailDataModule, "data", subclass_mode=True)
    for key in (
        "seed_everything",
        "trainer",
        "model",
        "optimizer",
        "lr_scheduler",
        "ckpt_path",
        "weights_only",
        *_OPTIONS,
    ):
        parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    with one_sentence():
        config = parser.parse_args(with_recipes(args))
        datamodule: LongTailDataModule = parser.instantiate_classes(config).data
        return datamodule
