"""The guide to adding classes, followed word for word; its numbers are those of the result files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.guide import REPOSITORY, draw_pictures, run_commands, run_python, text_of

GUIDE = text_of("add_a_class")
QUIET = "--trainer.enable_progress_bar=false"
SMALL = {
    "fit": ["--data.max_count=6", "--data.imbalance_factor=2", "--trainer.max_epochs=1", QUIET],
    "prepare": ["--k=0,4"],
    "test": ["--data.test_per_class=2", QUIET],
}


@pytest.mark.filterwarnings("ignore")
def test_commands_and_python(capsys):
    for folder, number in (("new/checkerboard", 3), ("photos", 2), ("known", 3)):
        draw_pictures(*(f"{folder}/{i}.png" for i in range(number)))
    run_commands(GUIDE, SMALL)
    assert "classes     50 -> 51\ncheckpoint  more.ckpt" in capsys.readouterr().out
    run_python(GUIDE)
    assert Path("m2.ckpt").exists()


def summary(name="cifar100_lite0"):
    path = REPOSITORY / "benchmarks" / "results" / f"prototype_transfer_{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["results"]["summary"]


def percent(found):
    return f"{found['mean']:.1f}"


def rows(title):
    table = GUIDE.partition(title)[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_numbers_of_added_classes():
    found = summary()["few_excluded"]
    heads = ("prototypes", "w_hc(20)", "w_hc(100)", "ensemble")
    table = [row for row in rows("some pictures each") if row[0] in ("1", "3", "5", "all")][:4]
    assert len(table) == 4
    for pictures_of, *values in table:
        assert values == [percent(found[f"{head}, {pictures_of} pictures"]["few"]) for head in heads]


def test_numbers_of_trained_classes():
    found = summary()["sqrt"]["table 1"]["rows"]
    labels = {
        "cosine classifier": "cosine classifier",
        "prototypes": "prototypes",
        "prototypes + classifier": "p_plus_w",
        "w_h(20)": "w_h_20",
        "w_h(100)": "w_h_100",
        "ensemble w_h(0), w_h(20), w_h(100)": "knowledge transfer",
        "mean of the donors (tau 0)": "mean_of_donors",
        "adjusted logits, the control": "adjusted logits",
    }
    table = {row[0]: row[1:] for row in rows("## Knowledge transfer for classes") if row[0] in labels}
    assert table.keys() == labels.keys()
    for name, values in table.items():
        row = found[labels[name]]
        assert values == [percent(row[split]) for split in ("many", "medium", "few", "all", "few among themselves")]


def test_numbers_of_rejection():
    found = [summary(name)["rejection of unseen classes"] for name in ("cifar100_lite0", "cifar100")]
    heads = ("cosine classifier", "prototypes", "w_h(20)", "w_hc(20)", "ensemble w_h")
    table = [row for row in rows("## Pictures of no known class") if row[0] in heads][: len(heads)]
    assert [row[0] for row in table] == list(heads)
    for head, *values in table:
        told = [each[f"{head}, logit"][key] for each in found for key in ("others rejected", "AUROC")]
        assert values == [percent(value) for value in told]
        for each in found:
            assert each[f"{head}, logit"]["AUROC"]["mean"] >= each[f"{head}, probability"]["AUROC"]["mean"]


def test_numbers_beyond_the_paper():
    found = summary("cifar100")["sqrt"]
    known = found["beyond the paper"] | {
        "cosine classifier": found["table 1"]["rows"]["cosine classifier"],
        "ensemble of w_h": found["table 1"]["rows"]["knowledge transfer"],
        "adjusted logits, the control": found["table 1"]["rows"]["adjusted logits"],
    }
    table = [row for row in rows("## Beyond the paper") if row[0]]
    assert len(table) == 11
    for name, *values in table:
        assert values == [percent(known[name][split]) for split in ("many", "medium", "few", "all")]
    assert max(table, key=lambda row: float(row[4]))[0] == "FeCAM, pooled 10"


def test_numbers_in_sentences():
    found = summary()["few_excluded"]
    text = " ".join(GUIDE.split())
    for sentence, row, split in (
        ("the classifier has {} before", "cosine classifier", "all"),
        ("the ensemble {} with all pictures", "ensemble, all pictures", "all"),
        ("falls from {} to", "cosine classifier", "many"),
        ("to {}. **Why", "ensemble, all pictures", "many"),
        ("new: {} percent", "old weights beside new prototypes", "many"),
    ):
        assert sentence.format(percent(found[row][split])) in text
