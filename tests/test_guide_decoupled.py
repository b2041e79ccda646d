"""The code of the guide to decoupled training, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longtail_lightning.cli.catalog import ROOT
from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY
from tests.data.tiny_cifar import write_cifar100

GUIDE = (ROOT.parent.parent / "docs" / "guides" / "decoupled.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_python_blocks(capsys):
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(block, "decoupled.md", "exec"), names)
    assert "Validation accuracy by classifier" in capsys.readouterr().out
    assert names["head"].tau == names["found"].tau


@pytest.mark.parametrize("command", re.findall(r"^ltl (fit --config .*)$", GUIDE, re.MULTILINE))
@pytest.mark.filterwarnings("ignore")
def test_commands(command):
    write_cifar100(Path("tiny"))
    small = ["--data.root=tiny", "--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    assert main([*command.split(), *small]) == 0


@pytest.mark.filterwarnings("ignore")
def test_yaml(capsys):
    (block,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    Path("mlp.yaml").write_text(block)
    assert main(["fit", "--config", "mlp.yaml", *MODEL, *TINY, "--trainer.max_epochs=1"]) == 0
    assert "mlp.ckpt" in capsys.readouterr().out
