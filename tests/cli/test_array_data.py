"""Data modules of images in memory through the real command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from longtail_lightning import long_tail_counts
from tests.data.test_array import arrays, medmnist
from tests.data.tiny_cifar import write_cifar10, write_cifar100

MODEL = ["--model=BaseClassifier", "--model.backbone=CIFARResNet", "--model.backbone.depth=8"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
ONCE = ["--trainer.max_epochs=1"]


def test_an_npz_is_fitted_tested_and_predicted(ltl):
    medmnist(Path("my images.npz"))
    data = ["--data=ArrayLT", "--data.train=my images.npz", "--data.transforms=cifar10", "--data.batch_size=8"]
    status, _, err = ltl("fit", *MODEL, *data, *QUIET, *ONCE, "--data.imbalance_factor=1.0")
    assert status == 2
    assert "the long tail asks for" in err
    status, _, err = ltl("fit", *MODEL, *data, *QUIET, *ONCE, "--data.profile=[8,4,2]")
    assert status == 0, err
    assert "my images-counts, seed 0, 14 images" in next(Path("runs").rglob("hparams.yaml")).read_text()
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    assert ltl("test", "--ckpt_path", checkpoint, *QUIET)[0] == 0
    assert ltl("predict", "--ckpt_path", checkpoint, *QUIET, "--predictions.path=p.csv")[0] == 0
    assert len(Path("p.csv").read_text().splitlines()) == 10


def test_a_pair_of_files_of_files(ltl):
    images, labels = arrays([6, 3])
    np.save("x.npy", images)
    np.save("y.npy", labels)
    status, out, err = ltl("counts", "--data=ArrayLT", "--data.train=[x.npy, y.npy]", "--data.class_names=[cat, dog]")
    assert status == 0, err
    assert "cat" in out


def test_a_missing_file_is_one_sentence(ltl):
    status, _, err = ltl("counts", "--data=ArrayLT", "--data.train=nowhere.npz")
    assert status == 2
    assert "nowhere.npz does not exist: check the path" in err
    assert "Traceback" not in err


def test_cifar_is_fitted_tested_and_predicted(ltl):
    write_cifar10(Path("data"))
    data = ["--data=CIFAR10LT", "--data.imbalance_factor=5", "--data.val_split=0.2", "--data.device_resident=true"]
    status, _, err = ltl("fit", *MODEL, *data, *QUIET, *ONCE)
    assert status == 0, err
    assert (
        f"CIFAR10LT-exp-5, seed 0, {long_tail_counts(10, 10, 5).total} images"
        in next(Path("runs").rglob("hparams.yaml")).read_text()
    )
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    assert ltl("test", "--ckpt_path", checkpoint, *QUIET)[0] == 0
    assert ltl("predict", "--ckpt_path", checkpoint, *QUIET, "--predictions.path=p.csv")[0] == 0
    lines = Path("p.csv").read_text().splitlines()
    assert len(lines) == 21
    assert "airplane" in lines[0] or any("airplane" in line for line in lines[1:])


def test_a_missing_cifar_is_one_sentence(ltl):
    status, _, err = ltl("fit", "--config", "cifar10_lt/ce", "--data.root=nowhere", *QUIET)
    assert status == 2
    assert "There is no nowhere/cifar-10-batches-py: set download=True (--data.download true)" in err
    assert "Traceback" not in err


def test_data_modules_in_data_modules(ltl):
    write_cifar10(Path("data"))
    medmnist(Path("tiny.npz"), classes=np.array(["dog", "wolf", "truck"]))
    Path("joined.yaml").write_text(
        """
data:
  class_path: longtail_lightning.ConcatLT
  init_args:
    classes: { automobile: car }
    batch_size: 16
    transforms: cifar10
    parts:
      - class_path: longtail_lightning.CIFAR10LT
        init_args: { imbalance_factor: 5 }
      - class_path: longtail_lightning.ArrayLT
        init_args: { train: tiny32.npz }
"""
    )
    content = dict(np.load("tiny.npz"))
    for split in ("train", "val", "test"):
        content[f"{split}_images"] = np.repeat(np.repeat(content[f"{split}_images"], 4, 1), 4, 2)
    np.savez("tiny32.npz", **content)
    status, out, err = ltl("fit", "--config=joined.yaml", *MODEL, *QUIET, *ONCE)
    assert status == 0, err
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    assert ltl("predict", "--ckpt_path", checkpoint, *QUIET, "--predictions.path=p.csv")[0] == 0
    lines = Path("p.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == [f"0/{i}" for i in range(20)] + [f"1/{i}" for i in range(9)]
    status, out, err = ltl("counts", "--config=joined.yaml")
    assert status == 0, err
    assert "car" in out
    assert "wolf" in out


def test_cifar100_counts(ltl):
    write_cifar100(Path("data"))
    status, out, err = ltl("counts", "--data=CIFAR100LT", "--data.imbalance_factor=5")
    assert status == 0, err
    assert "aquarium fish" in out
