"""`--ckpt_path last | best | hpc` takes a checkpoint, or says that there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning.cli._newest_checkpoint import with_newest_checkpoint
from tests.cli.conftest import MODEL, TINY


def make(path, when):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (when, when))


def test_the_newest_run_of_the_config():
    make("runs/a/version_9/checkpoints/last.ckpt", 1)
    make("runs/a/version_10/checkpoints/last.ckpt", 1)
    make("runs/a/version_11/checkpoints/best.ckpt", 9)
    make("runs/b/version_0/checkpoints/last.ckpt", 5)
    make("else/a/version_3/checkpoints/last.ckpt", 2)
    make("hpc_ckpt_2.ckpt", 3)
    make("hpc_ckpt_10.ckpt", 3)
    for args, found in (
        (["fit", "--config", "x/a.yaml", "--ckpt_path", "last"], "runs/a/version_10/checkpoints/last.ckpt"),
        (["fit", "--ckpt_path=last"], "runs/b/version_0/checkpoints/last.ckpt"),
        (["test", "--ckpt_path=best"], "runs/a/version_11/checkpoints/best.ckpt"),
        (
            ["fit", "--config=a", "--trainer.logger.save_dir=else", "--ckpt_path=last"],
            "else/a/version_3/checkpoints/last.ckpt",
        ),
        (["fit", "--ckpt_path=hpc"], "hpc_ckpt_10.ckpt"),
    ):
        assert with_newest_checkpoint(args)[-1] == f"--ckpt_path={found}"
    kept = ["fit", "--ckpt_path", "x.ckpt"]
    assert with_newest_checkpoint(kept) == kept


@pytest.mark.parametrize("word", ["last", "best", "hpc"])
@pytest.mark.parametrize("command", ["fit", "test"])
def test_there_is_none(ltl, word, command):
    with pytest.raises(LongTailError, match=rf"--ckpt_path {word}: there is no .*give the file of a checkpoint"):
        with_newest_checkpoint([command, f"--ckpt_path={word}"])
    status, _, err = ltl(command, *MODEL, *TINY, "--ckpt_path", word)
    assert status == 2
    assert "there is no" in err
    assert not Path("runs").exists(), "trained from scratch"


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_goes_on_and_is_tested(ltl, fit):
    fit()
    status, _, err = ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=2", "--ckpt_path=last")
    assert status == 0
    assert "--ckpt_path last is runs/run/version_0/checkpoints/last.ckpt" in err
    saved = [torch.load(f"runs/run/version_{n}/checkpoints/last.ckpt", weights_only=True) for n in (0, 1)]
    assert [each["epoch"] for each in saved] == [0, 1]
    assert saved[1]["global_step"] == 2 * saved[0]["global_step"]
    status, _, err = ltl("test", "--ckpt_path", "best")
    assert status == 0, err
    assert "version_" in err
