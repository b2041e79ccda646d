"""What each branch of a model is right about."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from longtail_lightning import BranchReport, ClassCounts, ShotAccuracy
from longtail_lightning.report import Comparison
from longtail_lightning.report.plots import plot_moving_averages
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def with_branches(data):
    """A model whose steps also return logits of two branches, and what they were."""
    model, seen = tiny_model(data), {"base": [], "retrieval": [], "target": []}

    def evaluate(batch):
        found = type(model)._evaluate(model, batch)
        logits = found["logits"]
        found |= {"base": logits.roll(1, 1), "retrieval": logits.flip(1)}
        for name, values in seen.items():
            values.append(found[name])
        return found

    model._evaluate = evaluate
    return model, seen


def expected(data, seen, name):
    metric = ShotAccuracy(data.class_counts, many=8, few=4)
    metric.update(torch.cat(seen[name]), torch.cat(seen["target"]))
    return {key: float(value) for key, value in metric.compute().items()}


def test_logs_writes_and_draws_each_branch(capsys):
    data = tiny_data()
    model, seen = with_branches(data)
    trainer = tiny_trainer(callbacks=[BranchReport(window=3)], logger=CSVLogger("logs"))
    (metrics,) = trainer.test(model, data, verbose=False)
    for name in ("base", "retrieval"):
        for key, value in expected(data, seen, name).items():
            assert metrics[f"test/{name}_{key}"] == pytest.approx(value)
    written = json.loads(next(Path("logs").rglob("branches_test.json")).read_text())
    assert [row["name"] for row in written["rows"]] == ["base", "retrieval", "both"]
    assert written["rows"][2]["all"] == pytest.approx(metrics["test/acc"], abs=1e-6)
    assert list(Path("logs").rglob("branches_test.png"))
    assert "Test accuracy of each branch" in capsys.readouterr().out


def test_in_a_fit_it_only_logs(capsys):
    data = tiny_data()
    model, _ = with_branches(data)
    trainer = tiny_trainer(max_epochs=1, callbacks=[BranchReport()], logger=CSVLogger("logs"))
    trainer.fit(model, data)
    assert "val/base_acc_few" in trainer.callback_metrics
    assert not list(Path("logs").rglob("branches*"))
    assert "each branch" not in capsys.readouterr().out
    trainer.validate(model, data, verbose=False)
    assert list(Path("logs").rglob("branches_validate.json"))


def test_models_without_branches_are_left_alone():
    data = tiny_data()
    trainer = tiny_trainer(callbacks=[BranchReport()])
    (metrics,) = trainer.test(tiny_model(data), data, verbose=False)
    assert not any("base" in name for name in metrics)


def in_a_process(folder):
    L.seed_everything(1, verbose=False)
    data = tiny_data(batch_size=4)
    model, _ = with_branches(data)
    trainer = tiny_trainer(callbacks=[BranchReport()], strategy="ddp", devices=2)
    return trainer.test(model, data, verbose=False)[0]


def test_two_processes_count_together(pool, tmp_path):
    L.seed_everything(1, verbose=False)
    data = tiny_data(batch_size=4)
    model, _ = with_branches(data)
    (alone,) = tiny_trainer(callbacks=[BranchReport()]).test(model, data, verbose=False)
    first, second = pool.run(in_a_process, str(tmp_path))
    assert first == second
    for name, value in alone.items():
        if "base" in name or "retrieval" in name:
            assert first[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_curves_are_means_over_neighbors():
    counts = ClassCounts([200, 150, 50, 30, 5, 3])
    accuracy = torch.tensor([0.9, 0.7, 0.5, torch.nan, 0.1, 0.3])
    comparison = Comparison("Test", {"base": accuracy}, counts, counts.shots())
    figure = plot_moving_averages(comparison, window=3)
    curve = figure.axes[0].lines[1].get_ydata()
    assert curve == pytest.approx([80, 70, 60, 30, 20, 20])
