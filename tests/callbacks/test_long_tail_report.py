from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from longtail_lightning import LongTailReport
from tests.callbacks.own import Own
from tests.modules.test_resume import Stop
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


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_module_of_ones_own_is_reported_as_it_counts_itself(sign, stage):
    # What leaves the head is not what the module answers with: its forward may change the logits.
    data, report = tiny_data(), LongTailReport()
    model = Own(data.class_counts, sign)
    trainer = tiny_trainer(callbacks=[report], max_epochs=1)
    trainer.fit(model, data)
    if stage != "fit":
        getattr(trainer, stage)(model, data, verbose=False)
    assert report.rows[0].all == pytest.approx(model.class_accuracy(), abs=1e-6)
    assert not report.files, "without a logger there is no folder to write to"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda outputs: None, r"validation_step of Own returned None: return {'logits': logits, 'target': labels}"),
        (lambda outputs: {"logits": outputs["logits"]}, r"returned a dict of 'logits': return {'logits'"),
        (lambda outputs: {**outputs, "logits": outputs["logits"][:, :5]}, "made for 6 classes, got logits for 5"),
        (lambda outputs: {**outputs, "target": outputs["target"].float()[:, None]}, r"got \(8, 6\) and \(8, 1\)"),
    ],
)
def test_a_module_that_returns_something_else_is_told_once_and_goes_on(answer, message):
    data, report = tiny_data(), LongTailReport()
    model, trainer = Own(data.class_counts, answer=answer), tiny_trainer(callbacks=[report], max_epochs=2)
    with pytest.warns(UserWarning, match=message) as told:
        trainer.fit(model, data)
    assert len([warning for warning in told if "LongTailReport" in str(warning.message)]) == 1
    assert trainer.current_epoch == 2
    assert not report.rows


def test_a_module_without_class_counts_is_told_how_to_give_them():
    data, report = tiny_data(), LongTailReport()
    with pytest.warns(UserWarning, match=r"cannot find the class counts of Own, .* set self\.class_counts to") as told:
        tiny_trainer(callbacks=[report], max_epochs=2).fit(Own(), loader_of(data, "train"), loader_of(data, "val"))
    assert len([warning for warning in told if "LongTailReport" in str(warning.message)]) == 1
    assert not report.rows


def loader_of(data, split):
    images = torch.rand(8, 3, 32, 32)
    return DataLoader(TensorDataset(images, data.labels(split)[:8]), batch_size=4)


def test_the_first_of_several_loaders_is_reported():
    class Several(Own):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            outputs = super().validation_step(batch, batch_idx)
            return outputs if dataloader_idx == 0 else None

    data, report = tiny_data(), LongTailReport()
    first, second = loader_of(data, "val"), loader_of(data, "train")
    tiny_trainer(callbacks=[report]).validate(Several(data.class_counts), [first, second], verbose=False)
    assert report.rows[0].all is not None


def test_a_run_stopped_within_an_epoch_ends_with_the_report_of_a_whole_one():
    def run(stop=None, resume=False):
        L.seed_everything(7, verbose=False)
        data, report = tiny_data(), LongTailReport(plot=False)
        callbacks = [report, *([Stop(stop)] if stop else [])]
        trainer = tiny_trainer(max_epochs=3, callbacks=callbacks, logger=CSVLogger("logs", name=None))
        with pytest.raises(SystemExit) if stop else nullcontext():
            trainer.fit(tiny_model(data), data, ckpt_path="stopped.ckpt" if resume else None, weights_only=True)
        return None if stop else (report._history, json.loads(Path(report.files["report"]).read_text()))

    whole = run()
    run(stop=7)
    assert run(resume=True) == whole
    assert list(whole[0]) == ["0", "1", "2"]


def fit_on_ranks(devices, silent):
    """Validation accuracy per split; one process may have no answer."""
    L.seed_everything(3, verbose=False)
    data, report = tiny_data(num_classes=5, batch_size=4), LongTailReport(many=8, few=4)
    model = Own(data.class_counts, width=5, sign=-1.0)
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(callbacks=[report], **distributed)
    if trainer.global_rank == silent:
        model.answer = lambda outputs: None
    warns = silent is not None and trainer.is_global_zero
    with pytest.warns(UserWarning, match="LongTailReport has no report") if warns else nullcontext():
        trainer.validate(model, data, verbose=False)
    return [row.as_dict() for row in report.rows]


def test_two_ranks_report_what_one_reports_and_neither_waits_for_the_other(pool):
    first, _ = pool.run(fit_on_ranks, 2, None)
    assert first == fit_on_ranks(1, None)
    assert first
    for silent in (0, 1):
        assert pool.run(fit_on_ranks, 2, silent) == [[], []]


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
