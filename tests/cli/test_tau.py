"""`ltl tau` over checkpoints of the command line and of Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from longtail_lightning import BaseClassifier, LearnableScaleHead, SyntheticLongTail, TauNormalizedHead
from tests.cli.conftest import TINY
from tests.cli.test_app import OwnModule as _OwnModule
from tests.tiny import tiny_data, tiny_model, tiny_trainer


class OwnModule(_OwnModule):
    """A user's module, of this file."""


def tau_of(out):
    return float(re.search(r"^tau +(\S+)$", out, re.MULTILINE)[1])


def test_writes_a_checkpoint_that_tests_like_any_other(ltl, fit, monkeypatch):
    checkpoint = fit() / "checkpoints" / "best.ckpt"
    build = SyntheticLongTail.build

    def watched(self, split):
        assert split != "test", "never on test images"
        return build(self, split)

    with monkeypatch.context() as patch:
        patch.setattr(SyntheticLongTail, "build", watched)
        status, out, err = ltl("tau", "--ckpt_path", checkpoint)
    assert status == 0, err
    assert all(word in out for word in ("Validation accuracy over tau", "0.1", "1.9", ", best"))
    written = checkpoint.with_name("best_tau.ckpt")
    before, after = (BaseClassifier.load_from_checkpoint(path, weights_only=True) for path in (checkpoint, written))
    assert isinstance(after.head, TauNormalizedHead)
    assert after.head.tau == pytest.approx(tau_of(out))
    assert torch.equal(after.head.head.weight, before.head.weight)
    assert not {"optimizer_states", "callbacks"} & torch.load(written, weights_only=True).keys()
    record = json.loads(written.with_suffix(".json").read_text())
    assert record["tau"] == pytest.approx(tau_of(out))
    assert [row["tau"] for row in record["rows"]] == [i / 10 for i in range(21)]
    assert written.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    contents = written.read_bytes()
    status, _, err = ltl("tau", "--ckpt_path", checkpoint, "--taus", "0,1.25")
    assert (status, written.read_bytes() == contents) == (2, True)
    assert "best_tau.ckpt exists already: give the new checkpoint another name with --out" in err
    status, _, err = ltl("tau", "--ckpt_path", checkpoint, "--taus=1.25", "--out=given.ckpt")
    assert status == 0, err
    assert BaseClassifier.load_from_checkpoint("given.ckpt").head.tau == 1.25
    (command,) = [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("test ")]
    status, _, err = ltl(*command.split()[1:])
    assert status == 0, err
    # And once more, from the classifier below.
    status, _, err = ltl("tau", "--ckpt_path", written, "--tau=0.25", "--out", "again.ckpt")
    assert status == 0, err
    again = BaseClassifier.load_from_checkpoint("again.ckpt").head
    assert again.tau == 0.25
    assert torch.equal(again.head.weight, before.head.weight)


@pytest.mark.parametrize("choose", ["train", "learn"])
def test_without_validation_images(ltl, fit, monkeypatch, choose):
    checkpoint = fit() / "checkpoints" / "last.ckpt"
    build = SyntheticLongTail.build
    monkeypatch.setattr(SyntheticLongTail, "build", lambda self, split: None if split == "val" else build(self, split))
    status, _, err = ltl("tau", "--ckpt_path", checkpoint)
    assert status == 2
    assert all(way in err for way in ("--choose train", "--tau 0.7", "--data.val_split 0.1"))
    status, out, err = ltl("tau", "--ckpt_path", checkpoint, "--choose", choose, "--bias=keep")
    assert status == 0, err
    assert "Training accuracy over tau" in out
    head = BaseClassifier.load_from_checkpoint(checkpoint.with_name("last_tau.ckpt")).head
    assert head.bias == "keep"
    assert head.tau == pytest.approx(tau_of(out), abs=1e-3)


def test_a_learned_tau_that_nobody_would_look_for_is_not_written(ltl):
    data = tiny_data()
    model = tiny_model(data)
    torch.nn.init.normal_(model.head.weight, std=10)  # sure of itself, and wrong
    trainer = tiny_trainer(max_epochs=0)
    trainer.fit(model, data)
    trainer.save_checkpoint("sure.ckpt")
    status, _, err = ltl("tau", *TINY, "--ckpt_path=sure.ckpt", "--choose=learn", "--device=cpu")
    assert status == 2
    assert "The learned tau" in err
    assert not list(Path().glob("sure_tau.*"))


def test_a_checkpoint_made_in_python(ltl):
    data = tiny_data()
    model, trainer = tiny_model(data), tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    model.head = LearnableScaleHead(model.head)
    trainer.save_checkpoint("python.ckpt")
    status, _, err = ltl("tau", *TINY, "--ckpt_path=python.ckpt", "--device=cpu", "--batch_size=5")
    assert status == 0, err
    assert isinstance(BaseClassifier.load_from_checkpoint("python_tau.ckpt").head, TauNormalizedHead)
    status, _, err = ltl("tau", *TINY, "--ckpt_path=python.ckpt", "--tau=1", "--out=python.ckpt/no/folder.ckpt")
    assert (status, "cannot be written" in err) == (2, True)


def test_a_module_of_ones_own(ltl):
    status, _, err = ltl("fit", f"--model={__name__}.OwnModule", *TINY, "--trainer.max_epochs=1")
    assert status == 0, err
    (checkpoint,) = Path("runs").rglob("epoch0.ckpt")
    status, out, err = ltl("tau", "--ckpt_path", checkpoint, "--tau", "1")
    assert status == 0, err
    (command,) = [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("test ")]
    assert ltl(*command.split()[1:])[0] == 0
    head = OwnModule.load_from_checkpoint(checkpoint.with_name("epoch0_tau.ckpt")).head
    assert type(head) is torch.nn.Linear
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(6))
    assert not bool(head.bias.any())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "usage: ltl tau"),
        (["--choose", "val"], "`ltl tau` needs --ckpt_path"),
        (["--ckpt_path", "nope.ckpt"], "there is no such file"),
        (["--ckpt_path", "a.ckpt", "--choose", "test"], "--choose: there is no choice 'test'. Choose one of val"),
        (["--ckpt_path", "a.ckpt", "--tau", "much"], "--tau: a number is expected, got 'much'"),
        (["--ckpt_path", "a.ckpt", "--tau", "nan"], "--tau: a number is expected, got 'nan'"),
        (["--ckpt_path", "a.ckpt", "--tau=-inf"], "--tau: a number is expected, got '-inf'"),
        (["--ckpt_path", "a.ckpt", "--taus", "0,,1"], "--taus: a number is expected, got ''"),
        (["--ckpt_path", "a.ckpt", "--tau=1", "--choose=train"], "--tau fixes the value that --choose would choose"),
        (["--ckpt_path", "a.ckpt", "--tau=1", "--taus=0,1"], "--tau fixes the value that --taus would choose"),
        (["--ckpt_path", "a.ckpt", "--out=a.ckpt"], "is the checkpoint itself"),
        (["--ckpt_path", "a.ckpt", "--bias"], "--bias needs a value"),
    ],
)
def test_wrong_input_is_told(ltl, args, words):
    status, out, err = ltl("tau", *args)
    assert (status == 2) == bool(args)
    assert words in (err if args else out)


def test_a_head_without_norms_is_refused(ltl, fit):
    checkpoint = fit("--model.head=CosineHead") / "checkpoints" / "best.ckpt"
    status, _, err = ltl("tau", "--ckpt_path", checkpoint)
    assert status == 2
    assert "ltl tau needs a linear classifier" in err
