"""`ltl fit | validate | test | predict`: a LightningCLI whose keys are `model`, `data` and `trainer`."""

from __future__ import annotations

import logging
import re
import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentError
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

# Imported so that the command line knows every component by its class name alone.
import longtail_lightning.backbones
import longtail_lightning.heads
import longtail_lightning.losses
import longtail_lightning.samplers
from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.callbacks import LogitAdjustment, LongTailReport, PredictionWriter
from longtail_lightning.cli.catalog import all_components
from longtail_lightning.cli.recipes import find_config
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data import LongTailDataModule

CONFIG_FILE = "config_fit.yaml"
_PARSER = {"exit_on_error": False}  # errors come as exceptions, to be shown as one sentence


class LongTailCLI(LightningCLI):
    """LightningCLI with the links, defaults and closing words of this library."""

    def __init__(self, args: list[str]) -> None:
        self.given = args
        name = Path(_value_of(args, "--config") or "run").stem
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
            | {command: _PARSER for command in ("fit", "validate", "test", "predict")},
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data.class_counts", "model.init_args.class_counts", compute_fn=ClassCounts.tolist, apply_on="instantiate"
        )
        parser.add_lightning_class_args(LogitAdjustment, "logit_adjustment")
        parser.set_defaults({"logit_adjustment.tau": 0.0})
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(LongTailReport, "report")

    def _parse_ckpt_path(self) -> None:
        # A checkpoint's hyper-parameters replace those of config and command line. Say so, instead
        # of testing with other values than the ones that were asked for.
        before = dict(self._model_values())
        super()._parse_ckpt_path()
        after = dict(self._model_values())
        changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        flags = {_plain_key(arg.split("=")[0]) for arg in self.given if arg.startswith("--model.")}
        changed -= {"model.pretrained", "model.class_counts"}
        if ignored := sorted(flag for flag in flags if any(key == flag or key.startswith(f"{flag}.") for key in changed)):
            raise LongTailError(
                f"--{ignored[0]} has no effect together with --ckpt_path, whose own value "
                f"({after[next(key for key in changed if key.startswith(ignored[0]))]!r}) wins: drop the flag"
                + ("." if "tau" not in ignored[0] else ", or adjust the trained logits with --logit_adjustment.tau.")
            )
        if changed:
            rank_zero_warn(f"The checkpoint's own values replace those given for {', '.join(sorted(changed))}.")

    def _model_values(self) -> Iterator[tuple[str, Any]]:
        model = self.config.get(self.config.get("subcommand") or "", {}).get("model")
        if model is not None:
            yield from _flatten("model", model.as_dict() if hasattr(model, "as_dict") else model)

    def before_instantiate_classes(self) -> None:
        self.save_config_kwargs["config_filename"] = f"config_{self.subcommand}.yaml"

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
        callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
        wanted = self.subcommand == "fit" and options.get("enable_checkpointing") is not False
        if wanted and not any(isinstance(callback, Checkpoint) for callback in callbacks):
            callbacks.append(self._default_checkpoint())
        return super().instantiate_trainer(**kwargs, callbacks=callbacks)

    def _default_checkpoint(self) -> ModelCheckpoint:
        if self.datamodule.dataset("val") is None:
            return ModelCheckpoint(filename="epoch{epoch}", auto_insert_metric_name=False, save_last=True)
        return ModelCheckpoint(
            filename="best", monitor="val/acc", mode="max", auto_insert_metric_name=False, save_last=True,
            enable_version_counter=False,
        )

    def before_predict(self) -> None:
        # The writer keeps what it needs; holding all probabilities as well would fill the memory.
        self.trainer.predict_loop.return_predictions = False

    def after_fit(self) -> None:
        checkpoint = self.trainer.checkpoint_callback
        folder = self.trainer.log_dir
        if folder is None or not isinstance(checkpoint, ModelCheckpoint) or not checkpoint.best_model_path:
            return
        best = _shown(checkpoint.best_model_path)
        lines = [f"checkpoint  {best}", f"last        {_shown(checkpoint.last_model_path)}"]
        for callback in self.trainer.callbacks:
            if isinstance(callback, LongTailReport):
                lines += [f"{name:10}  {_shown(path)}" for name, path in callback.files.items()]
        lines += [
            "",
            f"test        ltl test --ckpt_path {shlex.quote(best)}",
            f"predict     ltl predict --ckpt_path {shlex.quote(best)} --predictions.path predictions.csv",
            f"repeat      ltl fit --config {shlex.quote(_shown(Path(folder) / CONFIG_FILE))}",
        ]
        _say("\n".join(lines))

    def after_predict(self) -> None:
        _say(f"predictions {self._get(self.config_init, 'predictions').path}")


def run(args: Sequence[str]) -> int:
    """Run one of the four commands."""
    _quiet()
    prepared = _with_recipes(_with_config_of_checkpoint(list(args)))
    with _one_sentence():
        LongTailCLI(prepared)
    return 0


def _with_recipes(args: list[str]) -> list[str]:
    """Replace the recipe name after `--config` by its file."""
    result, previous = [], ""
    for arg in args:
        if previous in ("--config", "-c"):
            arg = str(find_config(arg))
        elif arg.startswith("--config="):
            arg = f"--config={find_config(arg.removeprefix('--config='))}"
        result.append(arg)
        previous = arg
    return result


def _with_config_of_checkpoint(args: list[str]) -> list[str]:
    """`ltl test --ckpt_path FILE` alone: take the config that the run saved beside the checkpoint."""
    checkpoint = _value_of(args, "--ckpt_path")
    given = any(arg.split("=")[0] in ("--config", "-c", "--data", "--model") for arg in args)
    if checkpoint is None or given:
        return args
    if not Path(checkpoint).is_file():
        raise LongTailError(f"--ckpt_path {checkpoint}: there is no such file.")
    for folder in list(Path(checkpoint).resolve().parents)[:3]:
        if (folder / CONFIG_FILE).is_file():
            return [args[0], "--config", str(folder / CONFIG_FILE), *args[1:]]
    raise LongTailError(
        f"No {CONFIG_FILE} beside {checkpoint}, so the data are unknown: add --config FILE or --data CLASS."
    )


def _value_of(args: Sequence[str], flag: str) -> str | None:
    for i, arg in enumerate(args):
        if arg == flag and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(f"{flag}="):
            return arg.removeprefix(f"{flag}=")
    return None


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            skip = key in ("init_args", "dict_kwargs", "class_path")
            yield from _flatten(prefix if skip and key != "class_path" else f"{prefix}.{key}", item)
    else:
        yield prefix, value


def _plain_key(flag: str) -> str:
    parts = [part for part in flag.removeprefix("--").rstrip("+").split(".") if part not in ("init_args", "dict_kwargs")]
    return ".".join(parts)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn jsonargparse's errors, and ours that it has wrapped, into one sentence."""
    try:
        yield
    except LongTailError:
        raise
    except (ArgumentError, ValueError, TypeError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LongTailError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise LongTailError(str(cause)) from error
        if isinstance(error, ArgumentError):
            raise LongTailError(_parser_message(str(error))) from error
        raise


def _parser_message(text: str) -> str:
    """jsonargparse's error, shortened to what the user can act on."""
    reasons = [line.strip().removeprefix("- ") for line in text.splitlines() if line.strip().startswith("- ")]
    reasons = [reason for reason in reasons if "NoneType" not in reason and "Problem with given" not in reason]
    first = " ".join(text.splitlines()[0].split())
    message = f"{first.partition(': Does not validate')[0]}: {'; '.join(reasons)}" if reasons else " ".join(text.split())
    if "subclass of LongTailLoss" in text:
        return f"{message}. A loss from elsewhere goes into WrapLoss: --model.loss=WrapLoss --model.loss.loss=CLASS"
    names = list(all_components())
    for word in re.findall(r"[\w.]+", text):
        bare = word.rpartition(".")[2]
        if bare not in names and bare[:1].isupper() and (hint := did_you_mean(bare, names)).startswith("Did you mean"):
            return f"{message[:400].rstrip('.')}. {hint}"
    return message[:600]


def _shown(path: str | Path) -> str:
    """Relative to where the user stands, when it lies below."""
    path = Path(path).resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@rank_zero_only
def _say(text: str) -> None:
    print(f"\n{text}")


def _quiet() -> None:
    """Leave out what is not the user's to change: advertisements, and words about Lightning's own code."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.* is deprecated")


def instantiate_data(args: list[str]) -> LongTailDataModule:
    """The data module of `--data ...` or `--config ...`, without a model."""
    parser = LightningArgumentParser(prog="ltl counts", **_PARSER)
    parser.add_argument("-c", "--config", action=ActionConfigFile)
    parser.add_lightning_class_args(LongTailDataModule, "data", subclass_mode=True)
    for key in ("seed_everything", "trainer", "model", "ckpt_path"):
        parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    with _one_sentence():
        config = parser.parse_args(_with_recipes(args))
        datamodule: LongTailDataModule = parser.instantiate_classes(config).data
        return datamodule
