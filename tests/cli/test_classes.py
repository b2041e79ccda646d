"""Outside of a fit a model's own classes win over those of the data."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from longtail_lightning import BaseClassifier, LinearHead
from longtail_lightning._errors import LongTailError
from longtail_lightning.cli._classes import place_of_classes
from tests.cli.conftest import TINY
from tests.cli.test_app import checkpoint_of
from tests.tiny import tiny_data

DATA = [arg for arg in TINY if arg.startswith("--data")]


def changed(checkpoint, path, names, counts):
    """The model of a checkpoint with other classes: those it knew keep their weights, new ones are never chosen."""
    model = BaseClassifier.load_from_checkpoint(checkpoint, weights_only=True)
    before, old = model.head, model.class_names
    model.head = LinearHead(before.num_features, len(names))
    with torch.no_grad():
        model.head.bias.fill_(-1e9)
        for place, name in enumerate(names):
            if name in old:
                model.head.weight[place] = before.weight[old.index(name)]
                model.head.bias[place] = before.bias[old.index(name)]
    model.set_classes(counts, names)
    saved = torch.load(checkpoint, weights_only=True)
    saved["state_dict"] = model.state_dict()
    model.on_save_checkpoint(saved)
    torch.save(saved, path)
    return path


def accuracy(out):
    """What the table at the end says of all classes."""
    return [line.split("│")[1:-1] for line in out.splitlines() if "│" in line][-1][-1].strip()


# A class that is new to the model has no images in the data of old.
new_class = pytest.mark.filterwarnings("ignore:The test set has no image of 1 of 7 classes .zebra")


@pytest.fixture
def names():
    return list(tiny_data().class_names)


@new_class
def test_a_model_with_a_class_added_in_front(ltl, fit, names):
    checkpoint = checkpoint_of(fit())
    added = changed(checkpoint, checkpoint.with_name("added.ckpt"), ["zebra", *names], [500, 12, 9, 6, 5, 3, 3])
    status, before, err = ltl("test", "--ckpt_path", checkpoint)
    assert status == 0, err
    status, after, err = ltl("test", "--ckpt_path", added)
    assert status == 0, err
    assert accuracy(after) == accuracy(before)
    assert "7 classes" in after
    report = json.loads(sorted(Path("runs").rglob("report_test.json"))[-1].read_text())
    assert report["class_names"] == ["zebra", *names]
    assert report["class_counts"][0] == 500
    for name, path in {"before": checkpoint, "after": added}.items():
        assert ltl("predict", "--ckpt_path", path, "--predictions.path", f"{name}.csv")[0] == 0
    rows = [list(csv.DictReader(Path(f"{name}.csv").read_text().splitlines())) for name in ("before", "after")]
    assert [row["predicted"] for row in rows[0]] == [row["predicted"] for row in rows[1]]
    assert ltl("validate", "--ckpt_path", added)[0] == 0


@new_class
def test_other_data_and_no_config_beside_it(ltl, fit, names):
    added = changed(checkpoint_of(fit()), Path("added.ckpt"), [*names[::-1], "zebra"], [3, 3, 5, 6, 9, 12, 40])
    status, out, err = ltl("test", "--ckpt_path", added, *DATA)
    assert status == 0, err
    assert "7 classes" in out


def test_a_class_that_the_model_does_not_know(ltl, fit, names):
    removed = changed(checkpoint_of(fit()), Path("removed.ckpt"), names[1:], [9, 6, 5, 3, 3])
    status, _, err = ltl("test", "--ckpt_path", removed, *DATA)
    assert status == 2
    assert f"The data have the class {names[0]!r}, which the model of --ckpt_path does not know" in err
    fewer = [arg for arg in DATA if "num_classes" not in arg]
    assert ltl("test", "--ckpt_path", removed, *fewer, "--data.num_classes=7")[0] == 2


def test_classes_without_names_must_be_as_many(ltl, fit, names):
    path = changed(checkpoint_of(fit()), Path("added.ckpt"), [*names, "zebra"], [12, 9, 6, 5, 3, 3, 1])
    saved = torch.load(path, weights_only=True)
    saved["longtail_lightning"]["card"]["class_names"] = None
    torch.save(saved, path)
    status, _, err = ltl("test", "--ckpt_path", path, *DATA)
    assert status == 2
    assert "has 7 classes and the data have 6" in err


def data_with(*names):
    return SimpleNamespace(class_names=list(names))


def test_which_class_is_which():
    assert place_of_classes(["a", "b"], [2, 1], data_with("a", "b")) is None
    assert place_of_classes(["a", "b", "c"], [3, 2, 1], data_with("c", "a")).tolist() == [2, 0]
    assert place_of_classes(["0", "1", "zebra"], [3, 2, 1], data_with("0", "1")).tolist() == [0, 1]
    # Numbers are no names: the classes are told apart by their places.
    assert place_of_classes(["a", "b"], [2, 1], data_with("0", "1")) is None
    assert place_of_classes(["0", "1"], [2, 1], data_with("a", "b")) is None
    assert place_of_classes(None, [2, 1], data_with("a", "b")) is None
    assert place_of_classes(["a", "b"], None, data_with("a", "c")) is None, "a module without class counts"
    for names, counts, own in ((None, [2, 1], "abc"), (["a", "a", "b"], [1, 1, 1], "ab"), (["a", "b"], [2, 1], "ac")):
        with pytest.raises(LongTailError):
            place_of_classes(names, counts, data_with(*own))


def test_tau_is_chosen_on_the_classes_of_the_model_alone(ltl, fit, names):
    added = changed(checkpoint_of(fit()), Path("added.ckpt"), ["zebra", *names], [500, 12, 9, 6, 5, 3, 3])
    status, _, err = ltl("tau", "--ckpt_path", added, *DATA)
    assert status == 2
    assert "The data have other classes than the model" in err
    assert ltl("tau", "--ckpt_path", added, *DATA, "--tau=1")[0] == 0


def test_a_fit_takes_the_classes_of_the_data(ltl, fit):
    folder = fit()
    assert BaseClassifier.load_from_checkpoint(checkpoint_of(folder)).class_counts.tolist() == [12, 9, 6, 5, 3, 3]
    more = [arg.replace("max_count=12", "max_count=24") for arg in TINY]
    status, _, err = ltl("test", "--ckpt_path", checkpoint_of(folder), *more)
    assert status == 0, err
    report = json.loads(sorted(Path("runs").rglob("report_test.json"))[-1].read_text())
    assert report["class_counts"] == [12, 9, 6, 5, 3, 3], "shot splits are those of the training"


def test_the_class_of_a_checkpoint_is_imported_only_when_it_is_known(ltl, fit):
    checkpoint = checkpoint_of(fit())
    saved = torch.load(checkpoint, weights_only=True)
    saved["hyper_parameters"]["_class_path"] = "antigravity.Module"
    torch.save(saved, "stranger.ckpt")
    for args in (DATA, ["--config", checkpoint.parent.parent / "config_fit.yaml"]):
        status, _, err = ltl("test", "--ckpt_path", "stranger.ckpt", *args)
        assert status == 2
        assert "names antigravity.Module, which is no class of this library" in err
