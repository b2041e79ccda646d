"""`ltl class`: as a user with pictures would."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtail_lightning import load
from tests.cli.conftest import MODEL, TINY

pytestmark = pytest.mark.filterwarnings(
    "ignore:The new classes have no learned weight", "ignore:The test set has no image of 1 of 7"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a cosine classifier."""
    import os

    from longtail_lightning.cli.main import main

    before, folder = Path.cwd(), tmp_path_factory.mktemp("run")
    os.chdir(folder)
    try:
        assert main(["fit", *MODEL, "--model.head=CosineHead", *TINY, "--trainer.max_epochs=1"]) == 0
    finally:
        os.chdir(before)
    (made,) = folder.rglob("last.ckpt")
    return made.parent


@pytest.fixture
def prepared(ltl, run):
    status, out, err = ltl("class", "prepare", "--ckpt_path", run / "last.ckpt", "--k", "0,4", "--out", "kt.ckpt")
    assert status == 0, err
    assert "ltl class add --ckpt_path kt.ckpt" in out
    return "kt.ckpt"


def photos(*names, number=3):
    for place, name in enumerate(names):
        folder = Path("new") / name
        folder.mkdir(parents=True)
        for i in range(number):
            pixels = np.random.default_rng(10 * place + i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return Path("new")


def test_add_list_explain_remove(ltl, prepared):
    folder = photos("axolotl")
    status, out, err = ltl("class", "add", "--ckpt_path", prepared, "--name=axolotl", "--images", folder / "axolotl")
    assert status == 0, err
    assert out.splitlines()[:2] == ["classes     6 -> 7", "checkpoint  kt_more.ckpt"]
    listed = ltl("class", "list", "--ckpt_path=kt_more.ckpt")[1]
    assert listed.splitlines()[-1].split() == ["axolotl", "3", "images", "added"]
    status, out, _ = ltl("class", "explain", "--ckpt_path=kt_more.ckpt", "--name=axolotl", "--top=2", "--plot=e.png")
    assert status == 0
    assert len(out.splitlines()) == 4
    with Image.open("e.png") as drawn:
        assert drawn.size[0] > 100
    status, out, _ = ltl("predict", "--ckpt_path=kt_more.ckpt", "--images", folder / "axolotl")
    assert status == 0
    assert "axolotl" in Path("predictions.csv").read_text()
    status, out, err = ltl("class", "remove", "--ckpt_path=kt_more.ckpt", "--name", "axolotl", "--out=back.ckpt")
    assert status == 0, err
    first, second = load(prepared), load("back.ckpt")
    assert first.class_names == second.class_names
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(first.module(images), second.module(images))


def test_a_folder_of_classes(ltl, prepared):
    status, _, err = ltl("class", "add", "--ckpt_path", prepared, "--folder", photos("b", "a"), "--out=more.ckpt")
    assert status == 0, err
    assert load("more.ckpt").class_names[-2:] == ["a", "b"]


def test_threshold(ltl, prepared):
    known, others = photos("known", "others", number=8) / "known", Path("new/others")
    words = ["--ckpt_path", prepared, "--known", known, "--unknown", others, "--keep=0.75", "--plot=roc.png"]
    status, out, err = ltl("class", "threshold", *words)
    assert status == 0, err
    told = dict(line.split(maxsplit=1) for line in out.splitlines() if line)
    assert told["kept"] == "75.0 % of the known pictures"
    assert told["rejected"].endswith("% of the others")
    with Image.open("roc.png") as drawn:
        assert drawn.size[0] > 100
    words = told["predict"].split()[1:]
    words[words.index("PICTURES")] = known
    status, _, err = ltl(*words)
    assert status == 0, err
    rows = list(csv.DictReader(Path("predictions.csv").read_text().splitlines()))
    assert sum(row["predicted"] == "" for row in rows) in (1, 2), "the line is rounded down"
    assert all(row["error"] == "" and row["top_1"] for row in rows)
    out = ltl("class", "threshold", "--ckpt_path", prepared, "--known", known)[1]
    assert "rejected" not in out


def test_the_old_data_test_it_and_so_does_a_folder_that_sorts_the_new_name_first(ltl, prepared):
    new = ["--name=aardvark", "--images", photos("aardvark") / "aardvark"]
    assert ltl("class", "add", "--ckpt_path", prepared, *new, "--out=m.ckpt")[0] == 0
    status, _, err = ltl("test", "--ckpt_path=m.ckpt", *TINY)
    assert status == 0, err
    images = Path("images/test")
    for name in load("m.ckpt").class_names:
        (images / name).mkdir(parents=True)
        for file in Path("new/aardvark").iterdir():
            (images / name / file.name).write_bytes(file.read_bytes())
    (Path("images") / "train").symlink_to(images.resolve())
    arguments = [
        "--data=ImageFolderLT",
        "--data.root=images",
        "--data.transforms=none",
        "--trainer.enable_progress_bar=false",
    ]
    status, out, err = ltl("test", "--ckpt_path=m.ckpt", *arguments, "--trainer.logger=false")
    assert status == 0, err
    # All pictures are aardvarks'; with classes matched by name, those of its folder alone are right.
    (line,) = [line for line in out.splitlines() if "test/acc " in line]
    assert float(line.split("│")[2]) == pytest.approx(1 / 7, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "--name=a"], "Give --name and --images for one class, or --folder"),
        (["add", "--name=a", "--images=p", "--folder=f"], "Give --name and --images"),
        (["add", "--folder=nowhere"], "no such folder"),
        (["add", "--folder=."], "holds no folder"),
        (["add", "--name=a", "--images=nowhere"], "no such file or folder"),
        (["remove", "--name=nothing"], "no class 'nothing'"),
        (["explain", "--name=nothing"], "no class 'nothing'"),
        (["threshold", "--known=nowhere"], "--known nowhere: there is no such file or folder"),
        (["threshold", "--known=.", "--keep=95"], "--keep 95 must be a share above 0"),
        (["threshold", "--known=.", "--plot=x.png"], "give some of others with --unknown"),
        (["prepare", "--out=x.ckpt", *TINY[:7]], "builds on a trained CosineHead"),
        (["join"], "There is no command `ltl class join`"),
    ],
)
def test_bad_input(ltl, prepared, words, message):
    status, _, err = ltl("class", words[0], "--ckpt_path", prepared, *words[1:])
    assert status == 2
    assert message in err


def test_a_plain_checkpoint_says_how_and_no_file_is_written_over(ltl, run, prepared):
    photos("a")
    status, _, err = ltl("class", "add", "--ckpt_path", run / "last.ckpt", "--name=a", "--images=new/a", "--out=x.ckpt")
    assert status == 2
    assert "ltl class prepare" in err
    assert ltl("class", "list", "--ckpt_path", run / "last.ckpt")[0] == 0
    status, _, err = ltl("class", "add", "--ckpt_path", prepared, "--name=a", "--images=new/a", "--out", prepared)
    assert status == 2
    assert "exists already" in err
    status, _, err = ltl("class", "prepare", "--ckpt_path", run / "last.ckpt", "--out=y.ckpt")
    assert status == 2
    assert "k=100: no learned class has more than 100 training images" in err
    assert not Path("y.ckpt").exists()
