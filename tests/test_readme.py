"""What the README shows is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longtail_lightning._rooms import exports
from longtail_lightning.cli.catalog import ROOT

REPOSITORY = ROOT.parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{i}" for i in range(len(BLOCKS))])
@pytest.mark.filterwarnings("ignore")
def test_python_blocks_run(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_loss_takes_six_lines_and_lightning_eight():
    assert len(BLOCKS[0].strip().splitlines()) <= 6
    assert len(BLOCKS[2].strip().splitlines()) <= 8


def test_every_component_is_listed():
    for room in (
        "losses",
        "samplers",
        "heads",
        "metrics",
        "features",
        "methods",
        "datasets",
        "data",
        "curation",
        "callbacks",
    ):
        (row,) = re.findall(rf"^\| {room} \| (.*) \|$", README, re.MULTILINE)
        names = {name for name in exports(room) if name not in ("LongTailLoss", "LongTailSampler", "Head")}
        assert set(re.findall(r"`(\w+)`", row)) == names


def test_numbers_are_those_of_the_result_files():
    rows = re.findall(r"^\| .* \| (.+?) \| .*\[(\w+)\.json\]\((.*?)\) \|$", README, re.MULTILINE)
    assert rows
    for value, name, path in rows:
        text = json.dumps(json.loads((REPOSITORY / path).read_text(encoding="utf-8"))["results"])
        for number in re.findall(r"\d+\.\d+", value):
            assert number in text, f"{number} is not in {name}.json"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (REPOSITORY / Path(target)).exists(), target
