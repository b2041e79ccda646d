"""Hooks of LightningCLI that are private and that we override: it still calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from longtail_lightning import _lightning
from longtail_lightning.cli.app import LongTailCLI
from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY


def test_lightning_still_asks_what_a_checkpoint_says_about_the_model():
    class Asked(LongTailCLI):
        def _parse_ckpt_path(self):
            calls.append("_parse_ckpt_path")

        def before_instantiate_classes(self):
            raise KeyboardInterrupt  # far enough

    calls = []
    with pytest.raises(KeyboardInterrupt):
        Asked(["test", *MODEL, *TINY])
    assert calls == ["_parse_ckpt_path"], (
        "LightningCLI no longer calls _parse_ckpt_path, so LongTailCLI does not see a checkpoint's own settings before "
        "the model is made"
    )


def test_lightning_still_runs_a_subcommand_through_one_method():
    class Ran(LongTailCLI):
        def instantiate_trainer(self, **kwargs):
            return None

        def _run_subcommand(self, subcommand):
            calls.append(subcommand)

    calls = []
    with pytest.warns(UserWarning, match="has not been trained"):
        Ran(["test", *MODEL, *TINY])
    assert calls == ["test"], (
        "LightningCLI no longer calls _run_subcommand, so `ltl features` and `ltl tau`, which override it, would test"
    )


def test_checkpoints_of_the_command_line_name_their_class():
    assert main(["fit", *MODEL, *TINY, "--trainer.max_epochs=1"]) == 0
    (file,) = Path("runs").rglob("best.ckpt")
    hparams = torch.load(file, weights_only=True)[_lightning.HYPER_PARAMETERS]
    assert hparams["_class_path"] == "longtail_lightning.BaseClassifier", "Lightning names the class by another key"
    assert "_instantiator" in hparams, "Lightning no longer writes _instantiator, which Saved.of leaves out"
