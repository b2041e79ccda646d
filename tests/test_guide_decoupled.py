"""The code of the guide to decoupled training, block after block."""

from __future__ import annotations

import re

import pytest

from longtail_lightning.cli.catalog import ROOT

GUIDE = (ROOT.parent.parent / "docs" / "guides" / "decoupled.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_python_blocks(capsys):
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(block, "decoupled.md", "exec"), names)
    assert "Validation accuracy by classifier" in capsys.readouterr().out
    assert names["head"].tau == names["found"].tau
