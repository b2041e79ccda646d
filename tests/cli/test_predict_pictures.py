"""`ltl predict --images`: a checkpoint and a folder, and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtail_lightning import load
from tests.cli.test_app import checkpoint_of


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "my photos"
    for number, name in enumerate(("a.png", "deep/b.jpg", "deep/ö.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def test_a_checkpoint_alone_is_enough(ltl, fit, photos):
    run = fit()
    checkpoint = checkpoint_of(run)
    (run / "config_fit.yaml").unlink()
    command = ["predict", "--ckpt_path", checkpoint, "--images", photos, "--predictions.top_k=2", "--device=cpu"]
    status, out, err = ltl(*command)
    assert status == 0, err
    assert "predictions predictions.csv" in out
    assert err.count("broken.jpg") == 1
    rows = list(csv.DictReader(Path("predictions.csv").read_text(encoding="utf-8").splitlines()))
    expected = load(checkpoint, device="cpu").predict(photos, top_k=2)
    assert [row["item"] for row in rows] == [prediction.file for prediction in expected]
    for row, prediction in zip(rows, expected):
        assert row["predicted"] == row["top_1"] == (prediction.name or "")
        assert bool(row["error"]) == (prediction.name is None)
        if prediction.name is not None:
            assert [row["top_1"], row["top_2"]] == [name for name, _ in prediction.top]
            assert float(row["probability_2"]) == pytest.approx(prediction.top[1][1], abs=1e-6)
    assert sum(bool(row["error"]) for row in rows) == 1
    status, _, err = ltl(*command, "--prior=uniform", "--predictions.path", "deep/u.csv")
    assert status == 0, err
    uniform = list(csv.DictReader(Path("deep/u.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["probability"] for row in uniform] != [row["probability"] for row in rows]
    one = ltl("predict", f"--images={photos / 'a.png'}", "--images", photos / "broken.jpg", "--ckpt_path", checkpoint)
    assert one[0] == 0, one
    assert len(Path("predictions.csv").read_text(encoding="utf-8").splitlines()) == 3
    status, _, err = ltl("predict", "--images", photos, "--ckpt_path", checkpoint, "--device=gpu")
    assert (status, "There is no device 'gpu'" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--images=photos"], "needs --ckpt_path FILE"),
        (["--images"], "--images needs a value"),
        (["--images=.", "--ckpt_path=nope.ckpt"], "nope.ckpt: there is no such file"),
        (["--images=.", "--images=nowhere", "--ckpt_path=a.ckpt"], "--images nowhere: there is no such file or folder"),
        (["--images=.", "--ckpt_path=a.ckpt", "--predictions.top_k=0"], "--predictions.top_k: it must be at least 1"),
        (["--images=photos", "--ckpt_path=a.ckpt", "--predictions.path=a.txt"], "are written as .csv"),
        (["--images=photos", "--ckpt_path=a.ckpt", "--predictions.topk=3"], "Did you mean --predictions.top_k"),
        (["--images=photos", "--ckpt_path=a.ckpt", "--prior=flat"], "--prior: there is no choice 'flat'"),
    ],
)
def test_wrong_use(ltl, args, words):
    status, out, err = ltl("predict", *args)
    assert (status, out) == (2, "")
    assert words in err


def test_help(ltl):
    assert "--prior" in ltl("predict", "--images", "--help")[1]
    assert "--images PATH" in ltl("predict", "--help")[1]
