"""Private names of Lightning and jsonargparse are still there, and mean what we take them for."""

from __future__ import annotations

from longtail_lightning._lightning import source_of_fit
from tests.callbacks.test_classifier_retraining import Own, loaders
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def test_the_source_of_a_fit_is_the_data_module_or_the_module_itself():
    data, trainer = tiny_data(num_classes=3), tiny_trainer(max_epochs=0)
    trainer.fit(tiny_model(data), data)
    assert source_of_fit(trainer) is data, "fit_loop._data_source.instance is no longer the data module of a fit"
    trainer.fit(Own(), *loaders())
    assert source_of_fit(trainer) is not data, "of a fit with loaders, _data_source.instance is that of the fit before"
    assert trainer.datamodule is data, "trainer.datamodule tells by itself now: source_of_fit can go"
