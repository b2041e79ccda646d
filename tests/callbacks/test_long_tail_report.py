from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import nn

from longtail_lightning import LongTailReport, create_backbone
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def run(stage, capsys, **options):
    data = tiny_data()
    model, report = tiny_model(data, **options), LongTailReport(many=8, few=4)
    trainer = tiny_trainer(callbacks=[report], logger=CSVLogger("logs", name=None), max_epochs=2)
    trainer.fit(model, data)
    if stage != "fit":
        capsys.readouterr()
        getattr(trainer, stage)(model, data, verbose=False)
    return trainer, report, capsys.readouterr().out


def test_fit_ends_with_a_table_a_json_and_a_plot(capsys):
    trainer, report, out = run("fit", capsys)
    assert all(
        word in out for word in ("many", "9-12 images", "medium", "few", "3-3 images", "6 classes", "epoch 1, last")
    )
    record = json.loads(Path(report.files["report"]).read_text())
    assert record["class_counts"] == tiny_data().class_counts.tolist()
    assert abs(record["rows"][0]["all"] - trainer.callback_metrics["val/acc"].item()) < 1e-6
    with Image.open(report.files["plot"]) as plot:
        assert min(plot.size) > 300
        assert len(plot.convert("RGB").getcolors(10**6)) > 10


def test_test_and_validate_report_too(capsys):
    for stage, title in (("test", "Test accuracy"), ("validate", "Validation accuracy")):
        trainer, report, out = run(stage, capsys)
        assert title in out
        kind = "val" if stage == "validate" else "test"
        assert abs(report.rows[0].few - trainer.callback_metrics[f"{kind}/acc_few"].item()) < 1e-6


def test_bounds_are_those_of_the_module_unless_given():
    data = tiny_data()
    for options, few in (({}, 2), ({"many": 100, "few": 20}, 6)):
        report = LongTailReport(**options)
        trainer = tiny_trainer(callbacks=[report], logger=CSVLogger("logs"), max_epochs=1)
        trainer.fit(tiny_model(data), data)
        rows = json.loads(Path(report.files["report"]).read_text())["rows"]
        assert (rows[0]["many"] is None) == (few == 6)


def test_a_second_fit_starts_anew(capsys):
    data, report = tiny_data(), LongTailReport()
    for epochs in (2, 1):
        tiny_trainer(callbacks=[report], max_epochs=epochs).fit(tiny_model(data), data)
    assert list(report._history) == ["0"]


def test_an_exception_leaves_no_hook_behind():
    class Break(L.Callback):
        def on_validation_batch_start(self, *args):
            raise ZeroDivisionError

    data, report = tiny_data(), LongTailReport()
    model = tiny_model(data)
    with pytest.raises(ZeroDivisionError):
        tiny_trainer(callbacks=[report, Break()]).fit(model, data)
    assert not model.head._forward_hooks


def test_works_on_a_module_of_ones_own(capsys):
    class Own(L.LightningModule):
        def __init__(self, class_counts):
            super().__init__()
            self.class_counts = class_counts
            self.backbone, self.head = create_backbone("cifar_resnet20"), nn.Linear(64, 6)

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

        def validation_step(self, batch, batch_idx):
            self.head(self.backbone(batch[0]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data, report = tiny_data(), LongTailReport()
    tiny_trainer(callbacks=[report], max_epochs=1).fit(Own(data.class_counts), data)
    assert report.rows[0].all is not None
    assert not report.files, "without a logger there is no folder to write to"


def test_history_survives_a_resume():
    data, report = tiny_data(), LongTailReport()
    trainer = tiny_trainer(callbacks=[report], max_epochs=1)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint("half.ckpt")
    resumed = LongTailReport()
    tiny_trainer(callbacks=[resumed], max_epochs=2).fit(
        tiny_model(data), data, ckpt_path="half.ckpt", weights_only=True
    )
    assert list(resumed._history) == ["0", "1"]
    assert resumed._history["0"] == report._history["0"]
