"""What the guide to the benchmarks says is true."""

from __future__ import annotations

import re

import pytest
import yaml

from longtail_lightning import long_tail_counts
from longtail_lightning.cli.catalog import ROOT
from longtail_lightning.cli.recipes import recipe_names

GUIDE = (ROOT.parent.parent / "docs/guides/benchmarks.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| `CIFAR(\d+)LT` \| `(\w+)` \| (.+) \|$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize(("classes", "profile", "totals"), TABLE, ids=[f"{c}-{p}" for c, p, _ in TABLE])
def test_totals(classes, profile, totals):
    largest = 50_000 // int(classes)
    ours = [long_tail_counts(int(classes), largest, factor, profile).total for factor in (10, 50, 100, 200)]
    assert [int(total) for total in totals.split("|")] == ours


def test_all_four_rows_were_found():
    assert len(TABLE) == 4


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
def test_python_blocks_run(block):
    exec(compile(block, "benchmarks.md", "exec"), {})


def test_recipes_and_classes_exist():
    import longtail_lightning

    named = set(re.findall(r"cifar100?_lt/\w+", GUIDE))
    assert named <= set(recipe_names())
    for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL):
        for path in re.findall(r"class_path: longtail_lightning\.(\w+)", str(yaml.safe_load(block)) + block):
            assert hasattr(longtail_lightning, path)
