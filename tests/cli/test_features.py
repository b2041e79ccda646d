"""`ltl features`, from a run to banks and back."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from longtail_lightning import BaseClassifier, FeatureBank, FeatureDataModule, SyntheticLongTail, extract_features
from tests.cli.conftest import TINY
from tests.cli.test_app import OwnModule, checkpoint_of
from tests.tiny import tiny_data, tiny_model, tiny_trainer

DATA = [arg for arg in TINY if arg.startswith("--data")]


def data():
    return tiny_data(val_per_class=2, test_per_class=2)


def test_the_banks_are_those_of_the_trained_backbone(ltl, fit):
    checkpoint = checkpoint_of(fit("--model.head=CosineHead"))
    status, out, err = ltl("features", "--ckpt_path", checkpoint, "--out", "bank")
    assert status == 0, err
    backbone = BaseClassifier.load_from_checkpoint(checkpoint).backbone
    for split in ("train", "val", "test"):
        bank = FeatureBank.load(f"bank/{split}")
        bank.check(encoder=backbone, data=data())
        assert f"bank/{split}  {bank!r}" in out
        expected = extract_features(backbone, data(), split=split, progress=False)
        assert torch.equal(bank.features, expected.features)
        assert bank.class_names == data().class_names
    assert FeatureDataModule("bank").class_counts == data().class_counts


def test_options(ltl, fit):
    checkpoint = checkpoint_of(fit())
    common = ("features", "--ckpt_path", checkpoint, "--out=bank")
    status, _, err = ltl(
        *common, "--split=train,val", "--views=2", "--dtype", "float32", "--batch_size=4", "--precision=bf16",
        "--device=cpu", "--num_workers=0",
    )  # fmt: skip
    assert status == 0, err
    assert not Path("bank/test").exists()
    train, val = FeatureBank.load("bank/train"), FeatureBank.load("bank/val")
    assert (train.num_views, val.num_views) == (2, 1)
    assert train.dtype == torch.float32
    settings = dict(train.fingerprint["extraction"])
    assert settings.pop("augmentation")
    assert settings == {"views": 2, "augment": True, "dtype": "float32", "precision": "bfloat16"}
    status, _, err = ltl(*common, "--split=train")
    assert status == 2
    assert "was made with views=2, augment=True, dtype=float32, precision=bfloat16" in err
    assert ltl(*common, "--split=train", "--overwrite")[0] == 0
    assert FeatureBank.load("bank/train").num_views == 1


def test_data_or_a_config_may_be_given(ltl, fit):
    folder = fit()
    checkpoint = checkpoint_of(folder)
    other = [arg for arg in DATA if "max_count" not in arg]
    status, _, err = ltl("features", "--ckpt_path", checkpoint, *other, "--data.max_count=24", "--out=a")
    assert status == 0, err
    assert FeatureBank.load("a/train").class_counts[0] == 24
    status, _, err = ltl("features", "--ckpt_path", checkpoint, "--config", folder / "config_fit.yaml", "--out=b")
    assert status == 0, err
    assert FeatureBank.load("b/train").class_counts[0] == 12


def test_a_checkpoint_before_the_config_counts(ltl, fit):
    folder = fit()
    trained = ltl("test", "--config", folder / "config_fit.yaml", "--ckpt_path", checkpoint_of(folder))[1]
    assert ltl("test", "--ckpt_path", checkpoint_of(folder), "--config", folder / "config_fit.yaml")[1] == trained


def test_other_commands_take_the_model_from_the_checkpoint_too(ltl, fit):
    checkpoint = checkpoint_of(fit())
    status, _, err = ltl("test", "--ckpt_path", checkpoint, *DATA, "--trainer.enable_progress_bar=false")
    assert status == 0, err


def test_a_checkpoint_made_in_python(ltl):
    trainer = tiny_trainer(max_epochs=1)
    model = tiny_model(data())
    trainer.fit(model, data())
    trainer.save_checkpoint("python.ckpt")
    status, _, err = ltl("features", "--ckpt_path=python.ckpt", *DATA, "--out=bank", "--split=val")
    assert status == 0, err
    FeatureBank.load("bank/val").check(encoder=model.backbone)


def test_a_module_of_ones_own(ltl):
    assert OwnModule.__module__ == "tests.cli.test_app"
    assert ltl("fit", "--model=tests.cli.test_app.OwnModule", *TINY, "--trainer.max_epochs=1")[0] == 0
    (checkpoint,) = Path("runs").rglob("epoch0.ckpt")
    status, _, err = ltl("features", "--ckpt_path", checkpoint, "--out=bank", "--split=val")
    assert status == 0, err
    assert FeatureBank.load("bank/val").fingerprint["encoder"]["class"] == "CIFARResNet"


def test_stopped_it_says_how_to_continue(ltl, fit, monkeypatch):
    checkpoint = checkpoint_of(fit())
    command = ["features", "--ckpt_path", str(checkpoint), "--out", "my bank", "--split=train"]
    prepare, seen = SyntheticLongTail.prepare_batch, []

    def interrupt(self, *args, **options):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return prepare(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SyntheticLongTail, "prepare_batch", interrupt)
        status, _, err = ltl(*command)
    assert status == 130
    words = "`ltl features --ckpt_path " + str(checkpoint) + " --out 'my bank' --split=train`"
    assert f"2 of 5 shards are kept: continue with {words}" in " ".join(err.split())
    with pytest.raises(ValueError, match="my bank/train is unfinished, 2 of 5 shards are there"):
        FeatureBank.load("my bank/train")
    assert ltl(*command)[0] == 0
    assert len(FeatureBank.load("my bank/train")) == 38


def test_another_checkpoint_is_refused(ltl, fit):
    first = checkpoint_of(fit())
    assert ltl("features", "--ckpt_path", first, "--out=bank", "--split=val")[0] == 0
    second = checkpoint_of(fit("--seed_everything=5"))
    assert first != second
    status, _, err = ltl("features", "--ckpt_path", second, "--out=bank", "--split=val")
    assert status == 2
    assert "The bank bank/val was made by CIFARResNet" in err
    assert "give another --out, or --overwrite" in err


def test_any_encoder_with_weights_of_ones_own(ltl, fit):
    checkpoint = checkpoint_of(fit("--model.backbone=cifar_resnet20"))
    encoder = ["features", "--encoder=cifar_resnet20", *DATA, "--split=val"]
    status, out, err = ltl(*encoder, "--weights", checkpoint, "--out=bank")
    assert status == 0, err
    backbone = BaseClassifier.load_from_checkpoint(checkpoint).backbone
    assert len(backbone.state_dict()) == int(out.partition(" of ")[2].split()[0])
    expected = extract_features(backbone, data(), split="val", progress=False)
    assert torch.equal(FeatureBank.load("bank/val").features, expected.features)
    torch.save(backbone.state_dict(), "plain.pt")
    assert ltl(*encoder, "--weights=plain.pt", "--out=again")[0] == 0
    assert torch.equal(FeatureBank.load("again/val").features, expected.features)
    status, _, err = ltl("features", "--encoder=resnet10", *DATA, "--weights=plain.pt", "--out=other")
    assert status == 2
    assert "plain.pt" in err
    assert not Path("other").exists()
    status, _, err = ltl(*encoder, "--out=none")
    assert status == 2
    assert "There are no weights of cifar_resnet20 to download: give a file of them, --weights PATH" in err


def test_weights_that_cannot_be_downloaded(ltl, monkeypatch, tmp_path):
    def no_network(*args, **options):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    status, _, err = ltl("features", "--encoder=torchvision/shufflenet_v2_x0_5", *DATA, "--out=bank")
    assert status == 2
    assert "The weights of torchvision/shufflenet_v2_x0_5 were not downloaded (<urlopen error no network>)" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--out=bank"], "needs --ckpt_path"),
        (["--out=bank", "--encoder=resnet10", "--ckpt_path=a.ckpt"], "give one of the two"),
        (["--out=bank", "--encoder=resnet10"], "knows no data: add --data CLASS"),
        (["--out=bank", "--ckpt_path=a.ckpt", "--weights=b.pt"], "--weights are those of an --encoder"),
        (["--out=bank", "--encoder=resnt10", "--data=SyntheticLongTail"], "Did you mean resnet10"),
        (["--out=bank", "--ckpt_path=a.ckpt", "--view=2"], "has no option --view. Did you mean --views"),
        (["--ckpt_path=a.ckpt"], "needs --out"),
        (["--ckpt_path=a.ckpt", "--out=bank"], "there is no such file"),
        (["--ckpt_path=best", "--out=bank", "--model=BaseClassifier"], "give the file of a checkpoint"),
        (["--ckpt_path=a.ckpt", "--out"], "--out needs a value"),
        (["--ckpt_path=a.ckpt", "--out", "--views=2"], "--out needs a value"),
        (["--ckpt_path=a.ckpt", "--out=bank", "--views=two"], "--views: a whole number is expected, got 'two'"),
        (
            ["--ckpt_path=a.ckpt", "--out=bank", "--dtype=bf16"],
            "--dtype: there is no choice 'bf16'. Choose one of float16, float32",
        ),
        (
            ["--ckpt_path=a.ckpt", "--out=bank", "--split=tran"],
            "--split: there is no choice 'tran'. Did you mean train?",
        ),
    ],
)
def test_wrong_input_is_answered_in_one_sentence(ltl, args, words):
    status, out, err = ltl("features", *args)
    assert status == 2
    assert words in err
    assert not out
    assert len([line for line in err.splitlines() if line.startswith("ltl: error:")]) == 1


def test_help(ltl):
    assert "ltl features --ckpt_path FILE --out FOLDER" in ltl("features", "--help")[1]
    assert "features" in ltl("--help")[1]
    assert "Did you mean features?" in ltl("feature")[2]


def test_a_module_without_a_backbone(ltl):
    assert ltl("fit", f"--model={__name__}.NoBackbone", *TINY, "--trainer.max_epochs=1")[0] == 0
    (checkpoint,) = Path("runs").rglob("epoch0.ckpt")
    status, _, err = ltl("features", "--ckpt_path", checkpoint, "--out=bank")
    assert status == 2
    assert "NoBackbone has no `backbone`" in err


class NoBackbone(OwnModule):
    def __init__(self):
        super().__init__()
        self.trunk = self.backbone
        del self.backbone

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.head(self.trunk(batch[0])), batch[1])

    def validation_step(self, batch, batch_idx):
        return {"logits": self.head(self.trunk(batch[0])), "target": batch[1]}
