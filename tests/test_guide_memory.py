"""The guide to memories, followed word for word; its numbers are those of the result file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longtail_lightning import RetrievalMemory
from tests.guide import REPOSITORY, draw_pictures, run_commands, run_python, text_of

GUIDE = text_of("memory")
SMALL = {
    "fit": ["--data.max_count=6", "--data.imbalance_factor=2", "--trainer.max_epochs=1",
            "--trainer.enable_progress_bar=false"],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_commands_and_python():
    shapes = [f"photos/star-5 blue/{number}.png" for number in (4442, 4446, 4445, 4443)]
    draw_pictures(*shapes, "photos/star-6 blue/2950.png", *(f"web/checkerboard/{i}.png" for i in range(3)), "new.png")
    run_commands(GUIDE, SMALL)
    memory = RetrievalMemory.load("m")
    assert memory.sources == {"train": 3}
    assert memory.text("photos/star-6 blue/2950.png") == "star with six points"
    assert Path("near.png").exists()
    run_python(GUIDE)
    assert RetrievalMemory.load("trained").sources["web"] == 3


def test_numbers():
    path = REPOSITORY / "benchmarks" / "results" / "retrieval_speed.json"
    found = json.loads(path.read_text(encoding="utf-8"))["results"]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in GUIDE.splitlines() if "x 768" in line]
    table += [[cell.strip() for cell in line.strip("|").split("|")] for line in GUIDE.splitlines() if "x 256" in line]
    assert len(table) == 4
    for size, kind, *values in table:
        told = found[size][kind]
        keys = ("recall@30", "times as fast", "build, seconds", "megabytes", "mapped load, seconds")
        assert values == [f"{told[key]:g}" for key in keys]
    text = " ".join(GUIDE.split())
    for sentence, key in (
        ("opens in {:g} s", "open a million items with texts, seconds"),
        ("takes {:g} s,", "add a source of 10,000 to 500,000, seconds"),
        ("written in {:g} s", "save it, seconds"),
    ):
        assert sentence.format(found["memory"][key]) in text
