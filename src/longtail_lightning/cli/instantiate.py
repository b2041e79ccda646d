"""Model and data as the command line describes them, for commands that run no trainer of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import SUPPRESS, ActionConfigFile
from lightning.pytorch.cli import LightningArgumentParser

from longtail_lightning._lightning import checked_imports
from longtail_lightning.cli._argv import with_recipes
from longtail_lightning.cli._messages import one_sentence
from longtail_lightning.cli._newest_checkpoint import with_newest_checkpoint
from longtail_lightning.cli.app import (
    FAIL_ON_NAN,
    OPTIONS,
    PARSER,
    ImportRule,
    LongTailCLI,
    leave_out_advertisements,
    prepared,
)
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.modules._checkpoint import read_checkpoint


class _WithoutTrainer(LongTailCLI):
    """Model and data as for `ltl test`, and nothing is run."""

    def after_instantiate_classes(self) -> None:
        pass  # classes are matched in batches, and there are none

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def load_trained(path: str | Path, components: Sequence[str]) -> tuple[L.LightningModule, LongTailDataModule]:
    """The model of a checkpoint, with its weights, and the data that `ltl test` would take.

    Args:
        path: the checkpoint.
        components: `--data ...`, `--config ...`, where other data than those of the run are wanted.
    """
    leave_out_advertisements("test")
    given = with_newest_checkpoint(["test", *components, f"--ckpt_path={path}"])
    path = given[-1].removeprefix("--ckpt_path=")
    args, rule = prepared(given), ImportRule(given)
    with checked_imports(rule), one_sentence():
        cli = _WithoutTrainer([*args, "--trainer.logger=false"], rule)
        checkpoint = read_checkpoint(path)
        cli.model.on_load_checkpoint(checkpoint)
        cli.model.load_state_dict(checkpoint["state_dict"], strict=cli.model.strict_loading)
    return cli.model, cli.datamodule


def instantiate_data(args: Sequence[str]) -> LongTailDataModule:
    """The data module of `--data ...` or `--config ...`, without a model."""
    parser = LightningArgumentParser(prog="ltl counts", **PARSER)
    parser.add_argument("-c", "--config", action=ActionConfigFile)
    parser.add_lightning_class_args(LongTailDataModule, "data", subclass_mode=True)
    others = ("seed_everything", "trainer", "model", "optimizer", "lr_scheduler", "ckpt_path", "weights_only")
    for key in (*others, *OPTIONS, FAIL_ON_NAN):
        parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    with one_sentence():
        config = parser.parse_args(with_recipes(list(args)))
        datamodule: LongTailDataModule = parser.instantiate_classes(config).data
        return datamodule
