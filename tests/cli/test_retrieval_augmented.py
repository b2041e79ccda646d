"""A classifier with a memory from the command line: pictures, memory, fit, edits, test, predict, explain."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = {"cat": 12, "dog": 8, "owl": 4}
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
DATA = ["--data=ImageFolderLT", "--data.root=photos", "--data.transforms=cifar10", "--data.batch_size=8"]
NET = ["--model.backbone=CIFARResNet", "--model.backbone.depth=8", "--model.backbone.width=4"]
RAC = ["--model=RetrievalAugmented", *NET, "--model.encoder=first.ckpt", "--model.memory=memory", "--model.k=5"]


def draw(folder, **numbers):
    for number, (name, count) in enumerate(numbers.items()):
        (Path(folder) / name).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng([number, i, len(folder)]).integers(0, 60, (40, 40, 3))
            pixels = (60 * number + noise).astype(np.uint8)
            Image.fromarray(pixels).save(Path(folder) / name / f"{i}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with pictures, an encoder, a memory of the training images, and a model."""
    import os

    from longtail_lightning.cli.main import main

    before, folder = Path.cwd(), tmp_path_factory.mktemp("rac")
    os.chdir(folder)
    try:
        for split, share in (("train", 1), ("val", 0.5), ("test", 0.5)):
            draw(f"photos/{split}", **{name: max(2, int(share * number)) for name, number in CLASSES.items()})
        draw("web", owl=9)
        for seed, name in enumerate(("first", "second")):
            base = ["--model=BaseClassifier", *NET, *DATA, *QUIET, "--trainer.max_epochs=1"]
            assert main(["fit", *base, f"--seed_everything={seed}", f"--trainer.logger.name={name}"]) == 0
            next((Path("runs") / name).rglob("last.ckpt")).rename(f"{name}.ckpt")
        assert main(["memory", "build", "other", "--ckpt_path=second.ckpt", "--images=photos/train"]) == 0
        assert main(["memory", "build", "memory", "--ckpt_path=first.ckpt", "--images=photos/train"]) == 0
        assert main(["fit", *RAC, *DATA, *QUIET, "--trainer.max_epochs=2", "--trainer.logger.name=rac"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return str(next((trained / "runs" / "rac").rglob("last.ckpt")))


def test_edits_reach_the_next_test_and_leave_again(ltl, here):
    status, before, err = ltl("test", "--ckpt_path", here, *QUIET)
    assert status == 0, err
    assert "Test accuracy of each branch" in before
    status, out, err = ltl("memory", "add", "memory", "--name=web", "--ckpt_path", here, "--images", "web")
    assert status == 0, err
    assert out.splitlines() == ["items       24 -> 33", "sources     train, web"]
    assert ltl("test", "--ckpt_path", here, *QUIET)[0] == 0
    words = ["memory", "explain", "memory", "--ckpt_path", here, "--images", "photos/test/owl/0.png"]
    status, out, err = ltl(*words, "--out=why.json", "--plot=why.png")
    assert status == 0, err
    told = json.loads(Path("why.json").read_text())
    assert {item["source"] for item in told[0]["items"]} <= {"train", "web"}
    assert out.startswith(f"photos/test/owl/0.png  {told[0]['name']} ")
    with Image.open("why.png") as drawn:
        assert drawn.size[0] > 1000
    assert ltl("memory", "remove", "memory", "--source=web")[0] == 0
    status, after, _ = ltl("test", "--ckpt_path", here, *QUIET)
    tables = [text[text.index("each branch") : text.index("└", text.index("each branch"))] for text in (before, after)]
    assert tables[0] == tables[1]


def test_predictions_with_the_memory(ltl, here, tmp_path):
    words = ["predict", "--images", "photos/test", "--ckpt_path", here]
    status, _, err = ltl(*words)
    assert status == 2
    assert err.startswith("ltl: error: The model looks pictures up in a memory: give it with --memory /")
    assert ltl(*words, "--memory=memory", f"--predictions.path={tmp_path}/p.csv")[0] == 0
    with open(tmp_path / "p.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["predicted"] for row in rows} <= set(CLASSES)
    assert len(rows) == 12


def test_a_memory_that_has_moved(ltl, here):
    Path("memory").rename("elsewhere")
    try:
        status, _, err = ltl("test", "--ckpt_path", here, *QUIET)
        assert status == 2
        assert "memory" in err.splitlines()[-1]
        assert "Traceback" not in err
        status, _, err = ltl("test", "--ckpt_path", here, "--model.memory=elsewhere", *QUIET)
        assert status == 0, err
    finally:
        Path("elsewhere").rename("memory")


def error(ltl, *words):
    status, _, err = ltl(*words)
    assert status == 2
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_what_is_refused_in_one_sentence(ltl, here):
    fit = ["fit", *DATA, *QUIET, "--trainer.max_epochs=1", "--trainer.logger=false"]
    without = [word for word in RAC if "memory" not in word]
    assert "give it with --model.memory FOLDER" in error(ltl, *fit, *without)
    assert "k=99, but the memory has 24 items" in error(ltl, *fit, *RAC, "--model.k=99")
    assert "mixup and cutmix blend two images" in error(ltl, *fit, *RAC, "--data.mixup_alpha=0.2")
    assert "encoder='no.ckpt': there is no such file" in error(ltl, *fit, *RAC, "--model.encoder=no.ckpt")
    assert "The memory was made by CIFARResNet" in error(ltl, *fit, *RAC, "--model.memory=other")
    assert "first.ckpt is of a BaseClassifier, which takes no memory: leave it out." in error(
        ltl, "memory", "explain", "memory", "--ckpt_path=first.ckpt", "--images=web/owl/0.png"
    )
