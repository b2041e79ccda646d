from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import nn

from longtail_lightning import (
    BaseClassifier,
    ClassifierRetraining,
    CosineHead,
    SyntheticLongTail,
    TauNormalizedHead,
    TauSweep,
)
from longtail_lightning._errors import LongTailError
from tests.callbacks.test_classifier_retraining import Own, loaders, without_val
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def scores(model, data, tau):
    """What Lightning's own validation says about a tau."""
    head = TauNormalizedHead(model.head, tau=tau)
    normalized = BaseClassifier(model.class_counts, backbone=model.backbone, head=head, many=8, few=4)
    (results,) = tiny_trainer().validate(normalized, data, verbose=False)
    return [results[f"val/acc{key}"] for key in ("_many", "_medium", "_few", "")]


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_every_row_is_what_a_validation_with_that_tau_gives(stage, capsys):
    data = tiny_data()
    model, sweep = tiny_model(data), TauSweep([0.0, 0.5, 1.0])
    trainer = tiny_trainer(callbacks=[sweep] if stage == "fit" else [], max_epochs=1, logger=CSVLogger("logs"))
    trainer.fit(model, data)
    if stage == "validate":
        tiny_trainer(callbacks=[sweep], logger=CSVLogger("logs")).validate(model, data, verbose=False)
    out = capsys.readouterr().out
    assert all(word in out for word in ("Validation accuracy over tau", "0.5", ", best", "9-12 images"))
    for row in sweep.selection.table:
        assert [row[key] for key in ("many", "medium", "few", "all")] == pytest.approx(scores(model, data, row["tau"]))
    record = json.loads(Path(sweep.files["tau_sweep"]).read_text())
    assert record["tau"] == sweep.selection.tau
    assert record["rows"] == [pytest.approx(row) for row in sweep.selection.table]
    with Image.open(sweep.files["tau_plot"]) as plot:
        assert len(plot.convert("RGB").getcolors(10**6)) > 10
    assert type(model.head).__name__ == "LinearHead", "the model stays as it is"


def test_on_training_features_without_validation():
    data = without_val()
    sweep = TauSweep(split="train", plot=False)
    tiny_trainer(callbacks=[sweep], max_epochs=1).fit(tiny_model(data), data)
    assert sweep.selection.tau in sweep.taus


def test_never_on_test_images(monkeypatch):
    build = SyntheticLongTail.build

    def watched(self, split):
        assert split != "test"
        return build(self, split)

    monkeypatch.setattr(SyntheticLongTail, "build", watched)
    data, sweep = tiny_data(), TauSweep(plot=False)
    tiny_trainer(callbacks=[sweep], max_epochs=1).fit(tiny_model(data), data)
    with pytest.raises(LongTailError, match="never on test images"):
        TauSweep(split="test")


def test_testing_does_not_sweep():
    data, sweep = tiny_data(), TauSweep()
    tiny_trainer(callbacks=[sweep]).test(tiny_model(data), data, verbose=False)
    assert sweep.selection is None


def test_a_module_of_ones_own():
    sweep = TauSweep(many=20, few=10, plot=False)
    tiny_trainer(callbacks=[sweep], max_epochs=1).fit(Own(), *loaders())
    assert len(sweep.selection.table) == 21


def test_what_cannot_work_is_told_before_the_training():
    data = tiny_data()
    with pytest.raises(LongTailError, match="TauSweep needs a linear classifier"):
        tiny_trainer(callbacks=[TauSweep()]).fit(tiny_model(data, head=CosineHead), data)
    data = without_val()
    with pytest.raises(LongTailError, match=r"no val images to look at: .*val_split=0\.1.*split=\"train\""):
        tiny_trainer(callbacks=[TauSweep()]).fit(tiny_model(data), data)
    model = Own()
    model.backbone, model.net = None, nn.Linear(2, 2)
    with pytest.raises(LongTailError, match="has no `backbone`"):
        tiny_trainer(callbacks=[TauSweep()]).fit(model, *loaders())


def test_training_images_in_a_validation():
    sweep = TauSweep(split="train", many=20, few=10, plot=False)
    with pytest.raises(LongTailError, match=r"no training images .* pass a data module to trainer\.validate"):
        tiny_trainer(callbacks=[sweep]).validate(Own(), loaders()[1], verbose=False)
    data = tiny_data()
    tiny_trainer(callbacks=[sweep]).validate(tiny_model(data), data, verbose=False)
    assert sweep.selection.tau in sweep.taus


def test_a_head_that_will_be_replaced_is_not_swept():
    data = tiny_data()
    retraining, sweep = ClassifierRetraining(["ncm"], keep="ncm", plot=False), TauSweep(plot=False)
    with pytest.raises(LongTailError, match="put TauSweep before it"):
        tiny_trainer(callbacks=[retraining, sweep]).fit(tiny_model(data), data)
    tiny_trainer(callbacks=[sweep, retraining], max_epochs=1).fit(tiny_model(data), data)
    assert sweep.selection is not None
    assert retraining.kept == "ncm"


@pytest.mark.parametrize(("options", "message"), [({"taus": []}, "at least one"), ({"bias": "of"}, "Unknown bias")])
def test_wrong_arguments_are_told(options, message):
    with pytest.raises(LongTailError, match=message):
        TauSweep(**options)


def sweep_on_ranks(devices):
    torch.manual_seed(0)
    data = tiny_data(num_classes=5, batch_size=4)
    model, sweep = tiny_model(data), TauSweep(plot=False)
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    tiny_trainer(callbacks=[sweep], **distributed).validate(model, data, verbose=False)
    return sweep.selection.table


def test_two_ranks_see_what_one_sees(pool):
    first, second = pool.run(sweep_on_ranks, 2)
    assert first == second == sweep_on_ranks(1)
