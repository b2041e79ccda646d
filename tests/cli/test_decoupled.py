"""The second stage from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    Decoupled,
    LearnableScaleHead,
    LinearHead,
    MLPHead,
)
from tests.cli.conftest import MODEL, TINY
from tests.cli.test_app import OwnModule as _OwnModule


class OwnModule(_OwnModule):
    """A user's module, of this file."""


SECOND = [*TINY, "--model=Decoupled", "--data.sampler=ClassBalancedSampler", "--trainer.max_epochs=1"]
HEADS = {
    "LWS": (["--model.head=LearnableScaleHead", "--model.head.scale_bias=true"], LearnableScaleHead),
    "MLP": (["--model.head=MLPHead", "--model.head.depth=3", "--model.head.hidden=5"], MLPHead),
    "the old one": (["--model.head=null", "--model.trainable=last_block"], LinearHead),
}


@pytest.mark.parametrize("name", HEADS)
def test_second_stage_from_a_checkpoint_of_the_first(ltl, fit, name):
    args, kind = HEADS[name]
    first = fit() / "checkpoints" / "best.ckpt"
    status, out, err = ltl("fit", *SECOND, f"--model.checkpoint={first}", *args)
    assert status == 0, err
    lines = dict(line.split(None, 1) for line in out.splitlines() if line.startswith(("test ", "predict ", "last ")))
    first.unlink()
    status, _, err = ltl(*lines["test"].split()[1:])
    assert status == 0, err
    model = Decoupled.load_from_checkpoint(lines["last"], weights_only=True)
    assert type(model.head) is kind
    if name == "MLP":
        assert (model.head.depth, model.head.hidden) == (3, 5)
    if name != "LWS":
        return
    assert model.head.scale_bias
    # It predicts and goes on, the first stage being gone.
    assert ltl(*lines["predict"].split()[1:])[0] == 0
    status, _, err = ltl(
        "fit", *SECOND, f"--model.checkpoint={first}", *args, "--trainer.max_epochs=2", "--ckpt_path", lines["last"]
    )
    assert status == 0, err


def test_config_of_the_second_stage_repeats_it(ltl, fit):
    first = fit() / "checkpoints" / "best.ckpt"
    assert ltl("fit", *SECOND, f"--model.checkpoint={first}", "--model.head=LearnableScaleHead")[0] == 0
    config = sorted(Path("runs").rglob("config_fit.yaml"))[-1]
    assert yaml.safe_load(config.read_text())["model"]["init_args"]["checkpoint"] == str(first)
    assert ltl("fit", "--config", config, "--trainer.fast_dev_run=true")[0] == 0
    assert ClassBalancedSampler.__name__ in config.read_text()


def test_a_first_stage_is_asked_for(ltl):
    status, _, err = ltl("fit", *SECOND)
    assert status == 2
    assert "--model.checkpoint FILE" in err


RETRAINING = """
trainer:
  callbacks:
    - class_path: ClassifierRetraining
      init_args:
        methods:
          - crt
          - class_path: LWS
            init_args: {epochs: 2, scale_bias: true, sampler: SquareRootSampler}
          - class_path: TauNormalization
            init_args: {choose: train}
          - ncm
        keep: lws
"""


def test_one_command_does_both_stages(ltl):
    Path("decoupled.yaml").write_text(RETRAINING)
    status, out, err = ltl("fit", "--config", "decoupled.yaml", *MODEL, *TINY, "--trainer.max_epochs=1")
    assert status == 0, err
    assert all(word in out for word in ("Joint", "cRT", "LWS", "NCM"))
    lines = dict(line.split(None, 1) for line in out.splitlines() if line.count("runs/") and line[0].isalpha())
    assert "lws.ckpt" in lines["test"], "what was kept is what is offered"
    for name in ("crt", "lws", "tau", "ncm"):
        status, _, err = ltl("test", "--ckpt_path", lines[name])
        assert status == 0, err
    assert ltl(*lines["predict"].split()[1:])[0] == 0
    head = BaseClassifier.load_from_checkpoint(lines["lws"], weights_only=True).head
    assert isinstance(head, LearnableScaleHead)
    assert head.scale_bias
    assert ltl("fit", "--config", lines["repeat"].split()[-1], "--trainer.fast_dev_run=true")[0] == 0


@pytest.mark.filterwarnings("ignore:ncm.ckpt holds a NearestClassMeanHead")
def test_both_stages_with_a_module_of_ones_own(ltl):
    callback = ["--trainer.callbacks+=ClassifierRetraining", "--trainer.callbacks.keep=crt"]
    status, out, err = ltl("fit", f"--model={__name__}.OwnModule", *TINY, "--trainer.max_epochs=1", *callback)
    assert status == 0, err
    (crt,) = [line.split()[1] for line in out.splitlines() if line.startswith("crt ")]
    assert type(OwnModule.load_from_checkpoint(crt).head) is torch.nn.Linear
    status, _, err = ltl("test", "--ckpt_path", crt)
    assert status == 0, err


def test_a_misspelled_method_is_told(ltl):
    callback = ["--trainer.callbacks+=ClassifierRetraining", "--trainer.callbacks.methods=[crtt]"]
    status, _, err = ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=1", *callback)
    assert status == 2
    assert "There is no method 'crtt'. Did you mean crt" in err
