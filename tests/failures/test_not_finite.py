"""A model whose output is not a number says so, and never names class 0."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from longtail_lightning import PredictionWriter, load
from tests.callbacks.own import Own
from tests.cli.test_app import checkpoint_of
from tests.failures.process import sentence
from tests.tiny import tiny_trainer

NOTHING = [[math.nan, 1.0, 2.0], [math.inf, 0.0, 0.0], [-math.inf, -math.inf, -math.inf]]
LEFT_OUT = [-math.inf, 0.0, 3.0]  # a class that is left out is no fault


@pytest.fixture
def broken(fit):
    """A checkpoint whose head gives NaN."""
    path = Path(checkpoint_of(fit()))
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["head.bias"][:] = math.nan
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("path", ["p.csv", "p.parquet"])
def test_rows_without_a_class_are_empty_and_counted(path):
    logits = torch.tensor([*NOTHING, LEFT_OUT])
    model = Own([3, 2, 1], width=3, answer=lambda outputs: {**outputs, "logits": logits})
    images = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(4, 3, 32, 32)), batch_size=4)
    with pytest.warns(UserWarning, match=rf"not finite for 3 of 4 images: their predictions in {path} are empty\."):
        tiny_trainer(callbacks=[PredictionWriter(path, top_k=2)]).predict(model, images)
    frame = pandas.read_csv(path) if path == "p.csv" else pandas.read_parquet(path)
    assert frame["predicted"].isna().tolist() == [True, True, True, False]
    assert frame["probability"].isna().tolist() == [True, True, True, False]
    assert int(frame["predicted"][3]) == 2
    assert frame.iloc[:3, 1:].isna().all(axis=None)


def test_pictures_of_a_loaded_model(broken):
    classifier = load(broken)
    Path("photos").mkdir()
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save("photos/a.png")
    (told,) = classifier.predict("photos")
    assert (told.name, told.probability, told.top) == (None, None, [])
    assert (told.file, told.error) == ("photos/a.png", "photos/a.png: the model's output is not finite")
    (told,) = classifier.predict(np.zeros((32, 32, 3), dtype=np.uint8))
    assert told.error == "the model's output is not finite"


@pytest.mark.filterwarnings("ignore:.*not finite", "ignore:.*NaN")
@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_status_of_an_evaluation_says_so_when_asked(ltl, broken, command):
    evaluate = [command, "--ckpt_path", broken]
    assert ltl(*evaluate)[0] == 0
    status, out, err = ltl(*evaluate, "--fail_on_nan")
    assert sentence(status, err).startswith("The model's output is not finite for 12 of 12 images of the ")
    if command == "predict":
        with open("predictions.csv", encoding="utf-8") as file:
            assert {row["predicted"] for row in csv.DictReader(file)} == {""}
    else:
        assert "medium" in out  # the report was printed all the same


def test_a_config_keeps_the_wish(ltl, fit):
    folder = fit("--fail_on_nan")
    assert "\nfail_on_nan: true\n" in (folder / "config_fit.yaml").read_text()
    config = ["--config", folder / "config_fit.yaml"]
    assert ltl("test", *config, "--ckpt_path", checkpoint_of(folder))[0] == 0
    assert ltl("counts", *config)[0] == 0
