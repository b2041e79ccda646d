"""The guide to checkpoints, followed word for word."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from longtail_lightning._rooms import ROOT
from longtail_lightning.cli.main import main

GUIDE = (ROOT.parent.parent / "docs" / "guides" / "checkpoints.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
SMALL = ["--data.num_classes=4", "--data.max_count=8", "--data.imbalance_factor=4", "--trainer.max_epochs=1"]


@pytest.fixture
def trained():
    """The run and the pictures that the guide takes for granted."""
    assert main(["fit", "--config", "quickstart", "--trainer.enable_progress_bar=false", *SMALL]) == 0
    Path("runs/quickstart/version_0/config_fit.yaml").unlink()
    Path("photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{number}.jpg")


def test_pictures_from_python_and_from_the_command_line(trained, capsys):
    capsys.readouterr()
    exec(PYTHON[0], {})
    told = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("photos")]
    assert [line[0] for line in told] == [f"photos/{number}.jpg" for number in range(3)]
    for command in COMMANDS:
        program, *args = shlex.split(command)
        assert program == "ltl"
        assert main(args) == 0
    with open("predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["item"] for row in rows] == [line[0] for line in told]
    assert [row["predicted"].split() for row in rows] == [line[1:3] for line in told]  # names of two words


def test_nothing_lost(recwarn):
    names = {}
    exec(PYTHON[1], names)
    assert isinstance(names["trainer"].strategy.checkpoint_io, names["WholeCheckpointIO"])


def test_weights_of_another_checkpoint(capsys):
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), "tf_efficientnet_lite0.safetensors")
    torch.save(nn.Linear(2, 2).state_dict(), "anything.pt")
    exec(PYTHON[2], {"my_module": nn.Linear(2, 2)})
    assert "294 of 294 weights; 2 of the file are not used (classifier." in capsys.readouterr().out
