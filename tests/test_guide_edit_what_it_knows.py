"""The guide to editing what a model knows, followed word for word; its numbers are those of the result files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.guide import REPOSITORY, run_commands, run_python, text_of

GUIDE = text_of("edit_what_it_knows")
QUIET = "--trainer.enable_progress_bar=false"
SMALL = {
    "fit": ["--data.max_count=6", "--data.imbalance_factor=2", "--trainer.max_epochs=1", QUIET],
    "test": [QUIET],
}


@pytest.mark.filterwarnings("ignore")
def test_commands_and_python(capsys):
    Path("rac.yaml").write_text(re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[0])
    commands, _, python = GUIDE.partition("## In Python")
    run_python(commands)
    assert len(list(Path("web").rglob("*.png"))) == 300
    run_commands(commands, SMALL)
    out = capsys.readouterr().out
    assert "sources     train, web" in out
    assert "star-4 purple -> star with four points" in out
    assert json.loads(Path("why.json").read_text())[0]["file"] == "new.png"
    run_python(python)


def results(name):
    path = REPOSITORY / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["results"]["summary"]


def row(name, found):
    return (
        f"| {name} | " + " | ".join(f"{found[group]['mean']:.1f}" for group in ("many", "medium", "few", "all")) + " |"
    )


def test_numbers():
    found, tuned = results("retrieval_augmented_caltech101_lite0"), results("retrieval_fine_tuned_caltech101_lite0")
    expected = [row(name, values["logits"]) for name, values in found["rows"].items()]
    for branch in ("base", "retrieval"):
        expected.append(row(f"of *both, linear base*: {branch}", found["rows"]["both, linear base"][branch]))
    for name, edits in found["edits"].items():
        expected.append(row(f"{name}, before", edits["before"]["logits"]))
        expected.append(row(f"{name}, after", edits["all left-out images"]["logits"]))
        assert edits["weights are equal bit for bit"] is True
        assert edits["after removal, as before"] is True
    expected.append(row("base alone", tuned["base"]["logits"]))
    expected.append(row("both", tuned["both"]["logits"]))
    expected.append(row("both, left-out pictures added", tuned["both, left-out images added"]["logits"]))
    cifar = results("retrieval_augmented_cifar100_lite0")
    expected += [row(name, values["logits"]) for name, values in cifar["rows"].items()]
    for base in ("both, linear base", "both, MLP base"):
        expected += [row(f"of *{base}*: {branch}", cifar["rows"][base][branch]) for branch in ("base", "retrieval")]
    for name, edits in cifar["edits"].items():
        expected.append(row(f"{name}, before", edits["before"]["logits"]))
        added = {"those of few-shot classes added": "those of few-shot classes", "all added": "all left-out images"}
        expected += [row(f"{name}, {told}", edits[key]["logits"]) for told, key in added.items()]
        assert edits["weights are equal bit for bit"] is True
        assert edits["after removal, as before"] is True
        few = [edits[key]["logits"]["few"]["mean"] for key in ("before", "those of few-shot classes")]
        assert few[1] > few[0] + 3
    lines = GUIDE.splitlines()
    assert [line for line in expected if line not in lines] == []


def test_the_price_of_neighbors_found_anew():
    path = REPOSITORY / "benchmarks" / "results" / "retrieval_fine_tuned_caltech101_exact.json"
    (run,) = json.loads(path.read_text(encoding="utf-8"))["results"]["runs"]
    cached, exact = run["both"], run["both, neighbors of augmented images"]
    assert f"has {exact['logits']['all']:.1f} % of Caltech-101 with neighbors of the augmented pictures" in GUIDE
    assert f"{cached['logits']['all']:.1f} % with those found once" in GUIDE
    assert f"trains {exact['seconds'] / cached['seconds']:.1f} times as long" in GUIDE
