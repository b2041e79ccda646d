"""The real LightningCLI over the traps that Lightning and jsonargparse set."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml

from longtail_lightning import BaseClassifier, CosineHead, LogitAdjustedLoss, WrapLoss
from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY


def checkpoint_of(folder):
    return folder / "checkpoints" / "best.ckpt"


def test_fit_ends_with_table_files_and_commands_that_work(ltl):
    status, out, _ = ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=1", "--model.loss=LogitAdjustedLoss")
    assert status == 0
    assert all(word in out for word in ("many", "medium", "few", "all", "6 classes"))
    lines = dict(line.split(None, 1) for line in out.splitlines() if line.split() and line.split()[0] in ("checkpoint", "plot", "test", "predict", "repeat"))
    assert Path(lines["checkpoint"]).is_file()
    assert Path(lines["plot"]).is_file()
    for command in ("test", "predict", "repeat"):
        assert ltl(*lines[command].split()[1:])[0] == 0
    assert len(list(csv.reader(Path("predictions.csv").read_text().splitlines()))) == 13


def test_repeating_a_run_gives_the_same_weights(ltl, fit):
    first = fit("--model.loss=LogitAdjustedLoss")
    assert ltl("fit", "--config", first / "config_fit.yaml")[0] == 0
    second = first.parent / "version_1"
    weights = [torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (first, second)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


# style: (name, arguments); each is fitted, tested from its checkpoint with nothing passed, and reloaded in Python.
MATRIX = {
    "own loss": ["--model.loss=LogitAdjustedLoss", "--model.loss.tau=0.5"],
    "full class path": ["--model.loss=longtail_lightning.losses.LogitAdjustedLoss"],
    "a loss without class counts": ["--model.loss=CrossEntropyLoss", "--model.loss.label_smoothing=0.1"],
    "a foreign loss": ["--model.loss=WrapLoss", "--model.loss.loss=torch.nn.CrossEntropyLoss", "--model.loss.loss.label_smoothing=0.1"],
    "optimizer, scheduler and head": [
        "--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=0.001",
        "--model.lr_scheduler=torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size=2",
        "--model.head=CosineHead", "--model.head.scale=12",
    ],
    "sampler and mixup": ["--data.sampler=PowerSampler", "--data.sampler.q=0.3", "--data.mixup_alpha=0.4"],
    "callback": ["--trainer.callbacks+=LearningRateMonitor"],
}  # fmt: skip


@pytest.mark.parametrize("name", MATRIX)
def test_checkpoints_load_with_nothing_passed(ltl, fit, name):
    folder = fit(*MATRIX[name])
    checkpoint = checkpoint_of(folder)
    status, _, err = ltl("test", "--ckpt_path", checkpoint)
    assert status == 0, err
    model = BaseClassifier.load_from_checkpoint(checkpoint, weights_only=True)
    assert model.class_counts.tolist() == [12, 9, 6, 5, 3, 3]
    if name == "own loss":
        assert isinstance(model.loss, LogitAdjustedLoss)
        assert model.loss.tau == 0.5
    if name == "a foreign loss":
        assert isinstance(model.loss, WrapLoss)
        assert model.loss.loss.label_smoothing == 0.1
    if "head" in name:
        assert isinstance(model.head, CosineHead)
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["hyper_parameters"]["class_counts"] == [12, 9, 6, 5, 3, 3]


def test_the_yaml_of_a_run_is_plain(fit):
    folder = fit("--model.loss=LogitAdjustedLoss")
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["class_counts"] == [12, 9, 6, 5, 3, 3]
    config = yaml.safe_load((folder / "config_fit.yaml").read_text())
    assert config["model"]["init_args"]["loss"]["class_path"].endswith("LogitAdjustedLoss")
    report = json.loads((folder / "report_fit.json").read_text())
    assert len(report["class_names"]) == 6


def test_testing_does_not_overwrite_the_config_of_fit(ltl, fit):
    folder = fit()
    before = (folder / "config_fit.yaml").read_text()
    ltl("test", "--ckpt_path", checkpoint_of(folder))
    assert (folder / "config_fit.yaml").read_text() == before
    assert list(Path("runs").rglob("config_test.yaml"))
    assert ltl("fit", "--config", folder / "config_fit.yaml", "--trainer.fast_dev_run=true")[0] == 0


def test_a_flag_that_the_checkpoint_would_override_is_refused(ltl, fit):
    checkpoint = checkpoint_of(fit("--model.loss=LogitAdjustedLoss"))
    for args in (["--model.loss.tau=9"], ["--model.loss.tau", "9"]):
        status, _, err = ltl("test", "--ckpt_path", checkpoint, *args)
        assert status == 2
        assert "--model.loss.tau has no effect" in err
        assert "--logit_adjustment.tau" in err
    assert ltl("test", "--ckpt_path", checkpoint, "--model.loss.tau=1.0")[0] == 0, "the same value is no conflict"


def test_a_config_that_the_checkpoint_overrides_is_told(ltl, fit):
    checkpoint = checkpoint_of(fit("--model.loss=LogitAdjustedLoss"))
    config = yaml.safe_load((checkpoint.parent.parent / "config_fit.yaml").read_text())
    config["model"]["init_args"]["loss"]["init_args"]["tau"] = 9
    Path("other.yaml").write_text(yaml.safe_dump(config))
    with pytest.warns(UserWarning, match="checkpoint's own values replace those given for model.loss.tau"):
        ltl("test", "--config", "other.yaml", "--ckpt_path", checkpoint)


def test_logit_adjustment_applies_to_a_loaded_checkpoint(ltl, fit):
    checkpoint = checkpoint_of(fit())
    for name, args in {"plain": [], "adjusted": ["--logit_adjustment.tau=30"]}.items():
        assert ltl("predict", "--ckpt_path", checkpoint, "--predictions.path", f"{name}.csv", *args)[0] == 0
    rows = {name: list(csv.DictReader(Path(f"{name}.csv").read_text().splitlines())) for name in ("plain", "adjusted")}
    rare = set(BaseClassifier.load_from_checkpoint(checkpoint).class_counts.tensor.topk(2, largest=False).indices.tolist())
    from tests.tiny import tiny_data

    names = {tiny_data().class_names[c] for c in rare}
    assert {row["predicted"] for row in rows["adjusted"]} <= names
    assert [row["probability"] for row in rows["plain"]] != [row["probability"] for row in rows["adjusted"]]


def test_class_counts_cannot_be_given_by_hand(ltl):
    status, _, err = ltl("fit", *MODEL, *TINY, "--trainer.fast_dev_run=true", "--model.class_counts=[1,2]")
    assert status == 2
    assert "they are taken from the data" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model.loss=LogitAdjustLoss"], "Did you mean LogitAdjustedLoss"),
        (["--data.sampler=ClasBalancedSampler"], "Did you mean ClassBalancedSampler"),
        (["--model.head=CosinHead"], "Did you mean CosineHead"),
        (["--model.backbone=cifar_resnt32"], "Did you mean cifar_resnet32"),
        (["--model.loss=torch.nn.CrossEntropyLoss"], "WrapLoss"),
        (["--model.loss=LogitAdjustedLoss", "--model.loss.tua=1"], "tua"),
        (["--trainer.max_epcohs=3"], "max_epcohs"),
        (["--data.imbalance_factor=0.1"], "imbalance_factor=0.1 must be at least 1"),
    ],
)
def test_wrong_values_are_answered_in_one_sentence(ltl, args, words):
    status, out, err = ltl("fit", *MODEL, *TINY, "--trainer.fast_dev_run=true", *args)
    assert status == 2, out
    assert words in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("ltl: error:")]) == 1


def test_without_validation_split_the_last_epoch_is_kept(ltl, monkeypatch):
    from longtail_lightning import SyntheticLongTail

    build = SyntheticLongTail.build
    monkeypatch.setattr(SyntheticLongTail, "build", lambda self, split: None if split == "val" else build(self, split))
    assert ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=2")[0] == 0
    names = {path.name for path in Path("runs").rglob("*.ckpt")}
    assert names == {"epoch1.ckpt", "last.ckpt"}


# Lightning tells that the resumed run has a folder of its own.
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_interrupting_keeps_the_last_epoch(ltl):
    class Interrupt(L.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    from longtail_lightning.cli import app

    original = app.LongTailCLI.instantiate_trainer

    def with_interrupt(self, **kwargs):
        trainer = original(self, **kwargs)
        trainer.callbacks.append(Interrupt())
        return trainer

    app.LongTailCLI.instantiate_trainer = with_interrupt
    try:
        with pytest.raises(SystemExit):
            main(["fit", *MODEL, *TINY, "--trainer.max_epochs=3"])
    finally:
        app.LongTailCLI.instantiate_trainer = original
    (last,) = Path("runs").rglob("last.ckpt")
    assert ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=3", "--ckpt_path", last)[0] == 0


def test_help_is_not_flooded(ltl, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert len(capsys.readouterr().out.splitlines()) < 700


def test_overfit_batches_still_trains(ltl):
    with pytest.warns(UserWarning, match="overfit"):
        assert ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=1", "--trainer.overfit_batches=2")[0] == 0
