"""The private names of Lightning and torch that this package rests on are still there, and still mean the same."""

from __future__ import annotations

import lightning as L
from torch import nn

from longtail_lightning import BaseClassifier, _lightning
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
