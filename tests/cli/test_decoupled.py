"""The second stage from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from longtail_lightning import ClassBalancedSampler, Decoupled, LearnableScaleHead, LinearHead, MLPHead
from tests.cli.conftest import TINY

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
