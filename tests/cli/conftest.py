from __future__ import annotations

import pytest

from longtail_lightning.cli.main import main

TINY = [
    "--data=SyntheticLongTail",
    "--data.num_classes=6",
    "--data.max_count=12",
    "--data.imbalance_factor=4",
    "--data.val_per_class=2",
    "--data.test_per_class=2",
    "--data.batch_size=8",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
MODEL = ["--model=BaseClassifier", "--model.backbone=CIFARResNet", "--model.backbone.depth=8", "--model.backbone.width=4"]


@pytest.fixture
def ltl(capsys):
    """Run `ltl` in this process; gives (exit status, stdout, stderr)."""

    def run(*args: str):
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def fit(ltl):
    """Fit a tiny model for one epoch; gives the folder of the run."""

    def run(*args: str):
        from pathlib import Path

        status, _, err = ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=1", *args)
        assert status == 0, err
        return sorted(Path("runs").rglob("config_fit.yaml"))[-1].parent

    return run
