"""The guide to compressing an ensemble, followed word for word; its numbers are those of the result files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longtail_lightning.cli import _stage_process, _stage_run
from longtail_lightning.cli.main import main
from tests.guide import REPOSITORY, run_commands, run_python, text_of

GUIDE = text_of("compress_an_ensemble")
QUIET = "--trainer.enable_progress_bar=false"
SMALL = {
    "fit": ["--trainer.max_epochs=1", "--data.max_count=40", "--data.imbalance_factor=4", QUIET],
    "test": [QUIET],
}


@pytest.mark.filterwarnings("ignore")
def test_commands_and_python(monkeypatch):
    def in_this_process(command, inherited=()):
        return main(command[3:])

    monkeypatch.setattr(_stage_process, "run_process", in_this_process)
    monkeypatch.setattr(_stage_run, "run_process", in_this_process)
    Path("compress.yaml").write_text(re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[0])
    run_commands(GUIDE, SMALL)
    small = GUIDE.replace("max_count=200, imbalance_factor=40", "max_count=40, imbalance_factor=4")
    names = run_python(small)
    assert names["student"].module.backbone.num_features == 192
    assert len(names["model"].teachers) == 2
    assert Path("neighbors.png").stat().st_size > 10_000


def row(name, found):
    groups = [found[group] for group in ("many", "medium", "few", "all")]
    told = ["-" if one is None else f"{one['mean']:.1f} ± {one['std']:.1f}" for one in groups]
    return f"| {name} | " + " | ".join(told) + " |"


@pytest.mark.parametrize("name", ["cifar100", "cifar10"])
def test_numbers(name):
    path = REPOSITORY / "benchmarks" / "results" / f"distillation_{name}.json"
    found = json.loads(path.read_text(encoding="utf-8"))["results"]["summary"]
    expected = [
        row(f"{title}, {head}" if head != "own" else title, values)
        for title, heads in found.items()
        for head, values in heads.items()
    ]
    lines = GUIDE.splitlines()
    assert [line for line in expected if line not in lines] == []


def test_numbers_of_one_seed():
    path = REPOSITORY / "benchmarks" / "results" / "distillation_cifar10.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    rows = {"in each step": results["runs"][0]["accuracy"]["CBD"]["own"]}
    rows["views of a picture"] = results["ablations, first seed"]["cached, 10 views"]["own"]
    rows["with 0.25"] = results["ablations, first seed"]["alpha by count .25"]["own"]
    for told, found in rows.items():
        assert f"{told} {found['all']:.1f} and {found['medium']:.1f}" in GUIDE
