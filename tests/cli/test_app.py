"""The real LightningCLI over the traps that Lightning and jsonargparse set."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml

from longtail_lightning import BaseClassifier, CIFARResNet, CosineHead, LogitAdjustedLoss, WrapLoss
from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY


def checkpoint_of(folder):
    return folder / "checkpoints" / "best.ckpt"


def test_fit_ends_with_table_files_and_commands_that_work(ltl):
    status, out, _ = ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=1", "--model.loss=LogitAdjustedLoss")
    assert status == 0
    assert all(word in out for word in ("many", "medium", "few", "all", "6 classes"))
    lines = dict(
        line.split(None, 1)
        for line in out.splitlines()
        if line.split() and line.split()[0] in ("checkpoint", "plot", "test", "predict", "repeat")
    )
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
    "a foreign loss": [
        "--model.loss=WrapLoss", "--model.loss.loss=torch.nn.CrossEntropyLoss", "--model.loss.loss.label_smoothing=0.1",
    ],
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


def test_what_is_no_plain_checkpoint_is_told(ltl, fit):
    path = checkpoint_of(fit())
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["root"] = Path("data")
    torch.save(checkpoint, path.parent / "path.ckpt")
    torch.save([1], path.parent / "list.ckpt")
    (path.parent / "text.ckpt").write_text("text")
    (path.parent / "cut.ckpt").write_bytes(path.read_bytes()[:5000])
    words = {
        "path": r"holds a pathlib\.\w+, and only tensors and plain values are read",
        "list": "is not a checkpoint of",
        "cut": r"is damaged \(its end is missing\)",
    }
    for command in ("test", "tau"):
        for name in ("path", "list", "text", "cut"):
            status, _, err = ltl(command, "--ckpt_path", path.parent / f"{name}.ckpt")
            assert status == 2
            assert re.search(words.get(name, "is not a checkpoint, or is damaged"), err), err
            assert err.count("\n") == 1


def test_logit_adjustment_applies_to_a_loaded_checkpoint(ltl, fit):
    checkpoint = checkpoint_of(fit())
    for name, args in {"plain": [], "adjusted": ["--logit_adjustment.tau=30"]}.items():
        assert ltl("predict", "--ckpt_path", checkpoint, "--predictions.path", f"{name}.csv", *args)[0] == 0
    rows = {name: list(csv.DictReader(Path(f"{name}.csv").read_text().splitlines())) for name in ("plain", "adjusted")}
    rare = set(
        BaseClassifier.load_from_checkpoint(checkpoint).class_counts.tensor.topk(2, largest=False).indices.tolist()
    )
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


class OwnModule(L.LightningModule):
    """A user's module: no class_counts, other names in the log."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = CIFARResNet(8, width=width)
        self.head = torch.nn.Linear(self.backbone.num_features, 6)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))
        return {"logits": self.head(self.backbone(batch[0])), "target": batch[1]}

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.training_step(batch, batch_idx))
        return {"logits": self.head(self.backbone(batch[0])), "target": batch[1]}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_module_of_ones_own(ltl):
    own = f"--model={__name__}.OwnModule"
    status, out, err = ltl("fit", own, "--model.width=2", *TINY, "--trainer.max_epochs=1")
    assert status == 0, err
    (command,) = [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("test ")]
    status, _, err = ltl(*command.split()[1:])
    assert status == 0, err
    (checkpoint,) = Path("runs").rglob("epoch0.ckpt")
    assert OwnModule.load_from_checkpoint(checkpoint).hparams.width == 2


def test_a_checkpoint_made_in_python(ltl):
    from tests.tiny import tiny_data, tiny_model, tiny_trainer

    data = tiny_data()
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint("python.ckpt")
    status, _, err = ltl("test", *MODEL, *TINY, "--ckpt_path=python.ckpt")
    assert status == 0, err


def test_short_names_in_a_fresh_process():
    command = [
        "fit",
        *MODEL,
        *TINY,
        "--model.loss=LDAMLoss",
        "--data.sampler=ClassAwareSampler",
        "--trainer.fast_dev_run=true",
    ]
    code = f"from longtail_lightning.cli.main import main; raise SystemExit(main({command}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize("args", [["--ckpt_path=nope.ckpt"], ["--config=quickstart", "--ckpt_path", "nope.ckpt"]])
def test_a_checkpoint_that_is_not_there(ltl, args):
    status, _, err = ltl("test", *args)
    assert status == 2
    assert "there is no such file" in err


def test_without_logger_nothing_is_written_here(ltl):
    status, _, err = ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=1", "--trainer.logger=false")
    assert status == 0, err
    assert not Path("config_fit.yaml").exists()


def test_another_model_than_the_checkpoint_is_refused(ltl, fit):
    checkpoint = checkpoint_of(fit())
    status, _, err = ltl("test", f"--model={__name__}.OwnModule", *TINY, "--ckpt_path", checkpoint)
    assert status == 2
    assert "--model has no effect" in err


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
        assert main(["fit", *MODEL, *TINY, "--trainer.max_epochs=3"]) == 130
    finally:
        app.LongTailCLI.instantiate_trainer = original
    (last,) = Path("runs").rglob("last.ckpt")
    assert ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=3", "--ckpt_path", last)[0] == 0


def test_help_is_not_flooded(ltl, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    assert 100 < len(capsys.readouterr().out.splitlines()) < 700


def test_overfit_batches_still_trains(ltl):
    with pytest.warns(UserWarning, match="overfit"):
        assert ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=1", "--trainer.overfit_batches=2")[0] == 0


def test_weights_in_a_config_are_not_asked_for_again(ltl):
    torch.save(CIFARResNet(8, width=4).state_dict(), "first.pt")
    options = ["--model=BaseClassifier", "--model.backbone=CIFARResNet", "--model.backbone.depth=8"]
    options += ["--model.backbone.width=4", "--model.backbone.weights=first.pt", "--trainer.max_epochs=1"]
    assert ltl("fit", *options, *TINY)[0] == 0
    Path("first.pt").unlink()
    (checkpoint,) = Path("runs").rglob("best.ckpt")
    assert ltl("test", "--ckpt_path", checkpoint)[0] == 0
    assert BaseClassifier.load_from_checkpoint(checkpoint).backbone.weights is None
