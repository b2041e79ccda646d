"""The private names of Lightning and torch that this package rests on are still there, and still mean the same."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

from longtail_lightning import BaseClassifier, _lightning
from longtail_lightning.cli.app import LongTailCLI
from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def test_from_command_line_is_true_while_a_config_is_the_hyper_parameters():
    from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

    assert not _lightning.from_command_line()
    with _given_hyperparameters_context({"a": 1}, "some.instantiator"):
        assert _lightning.from_command_line()


def test_a_module_knows_the_trainer_that_runs_it():
    seen = []

    class Watch(L.Callback):
        def on_fit_start(self, trainer, pl_module):
            seen.append(_lightning.attached_trainer(pl_module) is trainer)

    data = tiny_data()
    model = tiny_model(data)
    assert _lightning.attached_trainer(model) is None
    tiny_trainer(fast_dev_run=True, callbacks=[Watch()]).fit(model, data)
    assert seen == [True]


def test_hyper_parameters_are_where_they_are_looked_for():
    data = tiny_data()
    model = BaseClassifier(data.class_counts, backbone="cifar_resnet20")
    trainer = tiny_trainer()
    trainer.strategy.connect(model)
    assert _lightning.HYPER_PARAMETERS in trainer._checkpoint_connector.dump_checkpoint(weights_only=True)


def test_a_compiled_module_is_known():
    module = nn.Linear(2, 2)
    assert not _lightning.is_compiled(module)
    module.compile(backend="eager")
    assert _lightning.is_compiled(module)


# -- hooks of LightningCLI that we override ----------------------------------------------------------


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
