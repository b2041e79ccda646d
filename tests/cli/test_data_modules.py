"""Each data module over files, through the real command line, on a small tree."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import MODEL
from tests.data import trees

SMALL = [
    "--data.batch_size=4",
    "--data.transforms=ResizedCropTransforms",
    "--data.transforms.image_size=16",
    "--data.transforms.scale=[0.5,1]",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


def folder(*options):
    return ["--data=ImageFolderLT", "--data.root=data", *options]


def lists(*options):
    return ["--data=ImageListLT", "--data.root=data", "--data.train_list=My_LT_train.txt", *options]


MODULES = {
    "lists": (
        lambda: trees.lists(Path("data")),
        lists("--data.val_list=data/My_LT_val.txt", "--data.test_list=data/My_LT_test.txt"),
        "test/cat/0.jpg",
    ),
    "iNaturalist": (
        lambda: trees.inaturalist(Path("data"), 2019),
        ["--data=INaturalist", "--data.root=data", "--data.version=2019", "--data.val_split=0.3"],
        "val/cat/0.jpg",
    ),
    "folders": (
        lambda: trees.folders(Path("data")),
        ["--data=ImageFolderLT", "--data.root=data"],
        "test/cat/0.jpg",
    ),
    "class folders alone": (
        lambda: trees.flat(Path("data"), cat=9, dog=5, owl=2),
        ["--data=ImageFolderLT", "--data.root=data", "--data.sampler=ClassBalancedSampler"],
        "cat/",
    ),
    "table": (
        lambda: trees.table(Path("data")),
        ["--data=CSVLT", "--data.file=data/table.csv", "--data.split_column=split"],
        "test/cat/0.jpg",
    ),
}


@pytest.mark.filterwarnings("ignore:Classes with a single image")
@pytest.mark.parametrize("name", MODULES)
def test_fit_test_and_predict(ltl, name):
    make, args, first = MODULES[name]
    make()
    status, out, err = ltl("fit", *MODEL, *args, *SMALL, "--trainer.max_epochs=1")
    assert status == 0, err
    assert "3 classes" in out
    (checkpoint,) = Path("runs").rglob("best.ckpt")
    assert ltl("test", "--ckpt_path", checkpoint)[0] == 0
    assert ltl("predict", "--ckpt_path", checkpoint, "--predictions.path=p.csv")[0] == 0
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    assert rows[0]["item"].startswith(first)
    assert {row["predicted"].removeprefix("the ") for row in rows} <= set(trees.CLASSES)
    config = yaml.safe_load(next(Path("runs").rglob("config_fit.yaml")).read_text())
    assert config["data"]["init_args"]["transforms"]["init_args"]["image_size"] == 16


def test_transforms_by_the_name_of_a_preset(ltl):
    trees.folders(Path("data"))
    args = ["--data=ImageFolderLT", "--data.root=data", "--data.transforms=clip", "--data.batch_size=2"]
    status, _, err = ltl("fit", *MODEL, *args, *SMALL[4:], "--trainer.fast_dev_run=true")
    assert status == 0, err


def test_counts(ltl):
    trees.folders(Path("data"))
    status, out, err = ltl("counts", "--data=ImageFolderLT", "--data.root=data")
    assert status == 0, err
    assert all(words in out for words in ("cat", "owl", "11 images, imbalance factor 3"))


def table(text):
    Path("table.csv").write_text(text)
    return ["--data=CSVLT", "--data.file=table.csv"]


def lists_without_images():
    trees.lists(Path("data"))
    shutil.rmtree("data/train/cat")
    return lists()


def archive():
    Path("data").touch()
    Path("data").rename("data.zip")
    return ["--data=ImageFolderLT", "--data.root=data.zip"]


def made(make, args):
    make(Path("data"))
    return args


def unlearnable():
    trees.folders(Path("data"))
    trees.image(Path("data/test/elk/1.jpg"))
    return folder()


# What is wrong with the data, and what the sentence says. The first group needs no fit to be found.
BAD_COUNTS = {
    "options before the class": (lambda: ["--data.root=data", *folder()], "--data CLASS --data.OPTION VALUE"),
    "a missing root": (folder, "data does not exist"),
    "no root": (lambda: ["--data=ImageFolderLT"], "ImageFolderLT needs --data.root"),
    "an archive": (archive, "unzip -q data.zip -d data"),
    "an unknown option": (lambda: folder("--data.batchsize=3"), "no option 'batchsize'. Did you mean batch_size?"),
    "an unknown preset": (lambda: folder("--data.transforms=imagnet"), "Did you mean imagenet?"),
    "an unknown option of the transforms": (
        lambda: folder("--data.transforms=ResizedCropTransforms", "--data.transforms.size=3"),
        "ResizedCropTransforms has no option 'size'.",
    ),
    "an unknown year": (
        lambda: ["--data=INaturalist", "--data.root=.", "--data.version=2020"],
        "expected one of [2017",
    ),
    "labels from 1": (
        lambda: table("path,label\n1.jpg,1\n"),
        "run from 1 to 1, class indices start at 0: relabel=true",
    ),
    "a missing column": (lambda: table("path,lable\n1.jpg,1\n"), "Did you mean lable?"),
    "a missing list": (
        lambda: made(trees.lists, [*lists()[:2], "--data.train_list=trian.txt"]),
        "train_list: there is no file trian.txt",
    ),
    "one image per class": (
        lambda: made(lambda root: trees.flat(root, cat=1, dog=1), folder()),
        "every class has a single image",
    ),
}
BAD_FITS = {
    "lost files": (lists_without_images, "6 of 11 files of My_LT_train.txt do not exist below data (train/cat/0.jpg, "),
    "a test class without training images": (unlearnable, "data/test has 1 class that data/train lacks (elk)"),
}


@pytest.mark.parametrize("name", [*BAD_COUNTS, *BAD_FITS])
def test_bad_input_ends_in_one_sentence(ltl, name):
    make, message = {**BAD_COUNTS, **BAD_FITS}[name]
    args = make()
    command = ["counts"] if name in BAD_COUNTS else ["fit", *MODEL, *SMALL, "--trainer.max_epochs=1"]
    status, _, err = ltl(*command[:1], *args, *command[1:])
    assert status == 2
    assert err.startswith("ltl: error: ")
    assert message in err
    assert "Traceback" not in err
