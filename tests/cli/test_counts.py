from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail_lightning.datasets import read_npz


def test_of_a_data_module(ltl):
    status, out, _ = ltl("counts", "--data=SyntheticLongTail", "--data.num_classes=10")
    assert status == 0
    assert "imbalance factor 100" in out
    assert "star-3" in out or "fan-3" in out


def test_of_a_recipe(ltl):
    assert "5499 images" in ltl("counts", "--config", "quickstart")[1]


def write(name):
    labels = [0] * 30 + [1] * 3
    path = Path(name)
    if path.suffix == ".txt":
        path.write_text("\n".join(f"img/{i}.jpg {label}" for i, label in enumerate(labels)))
    elif path.suffix == ".csv":
        path.write_text("\n".join(["file,label", *(f"{i}.jpg,{label}" for i, label in enumerate(labels))]))
    elif path.suffix == ".npy":
        np.save(path, labels)
    elif path.suffix == ".pt":
        torch.save(torch.tensor(labels), path)
    else:
        path.write_text(json.dumps(labels))
    return name


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.npy", "a.pt", "a.json"])
def test_of_a_labels_file(ltl, name):
    status, out, err = ltl("counts", write(name), "--many", "20", "--few=5")
    assert status == 0, err
    assert "33 images, imbalance factor 10" in out


def test_names_in_a_column(ltl):
    Path("a.csv").write_text("species,file\ncat,1.jpg\ncat,2.jpg\ndog,3.jpg\n")
    _, out, _ = ltl("counts", "a.csv", "--column", "species")
    assert "cat" in out
    assert "3 images" in out
    assert "Did you mean species?" in ltl("counts", "a.csv", "--column", "specie")[2]


def test_of_the_config_of_a_run(ltl, fit):
    folder = fit()
    assert "38 images" in ltl("counts", "--config", folder / "config_fit.yaml")[1]


@pytest.mark.parametrize(
    "args",
    [
        ["a.jpg"],
        ["a.csv", "b.csv"],
        ["--data=Nothing"],
        ["a.csv", "--few"],
        ["a.csv", "--few=some"],
        ["a.csv", "--column=7"],
        ["empty.csv"],
        ["dict.json"],
        ["negative.txt"],
        ["cut.csv"],
        ["no_text.txt"],
        ["broken.json"],
        ["broken.npy"],
        ["broken.pt"],
        ["dict.pt"],
        ["number.npy"],
    ],
)
def test_bad_input_exits_with_2(ltl, args):
    Path("a.jpg").write_text("")
    write("a.csv")
    Path("empty.csv").write_text("")
    Path("dict.json").write_text("{}")
    Path("negative.txt").write_text("0\n-1\n")
    Path("cut.csv").write_text("file,label\na,0\nb\n")
    Path("no_text.txt").write_bytes(b"\xff\xfe")
    for suffix in ("json", "npy", "pt"):
        Path(f"broken.{suffix}").write_text("{")
    torch.save({"labels": 1}, "dict.pt")
    np.save("number.npy", np.array(3))
    status, _, err = ltl("counts", *args)
    assert status == 2
    assert err.startswith("ltl: error: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.json", "[" * 200_000, "nests its lists too deeply"),
        ("labels.json", "[0, 1000000000000]", "which would make 1,000,000,000,001 classes of 2 images"),
        ("labels.txt", "1.jpg " + "9" * 5000, "is no number of a class"),
        ("labels.txt", f"1.jpg {10**18}", "which would make"),
        ("labels.txt", "1.jpg --5", "is no number of a class"),
        ("labels.txt", "1.jpg \u00b2", "is no number of a class"),
        ("labels.csv", 'path,label\n1.jpg,"' + "x" * 200_000, "is no .csv file, or a damaged one"),
    ],
)
def test_labels_of_strangers(ltl, name, content, message):
    Path(name).write_text(content)
    status, _, err = ltl("counts", name)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_an_array_that_claims_more_labels_than_it_holds(ltl):
    with open("labels.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (10**15,)})
    status, _, err = ltl("counts", "labels.npy")
    assert status == 2
    assert "labels.npy is no .npy file, or a damaged one" in err


@pytest.mark.parametrize("number", ["100000000000", "1e11"])
def test_more_classes_than_memory(ltl, number):
    status, _, err = ltl("counts", "--data=SyntheticLongTail", f"--data.num_classes={number}")
    assert status == 2
    assert "Traceback" not in err
    assert "num_classes" in err


def test_a_tensor_file_that_unpacks_to_terabytes(ltl, monkeypatch):
    monkeypatch.setattr(read_npz, "MAX_UNPACKED", 1_000_000)
    with zipfile.ZipFile("labels.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("labels/data/0", bytes(2_000_000))
    status, _, err = ltl("counts", "labels.pt")
    assert status == 2
    assert "labels/data/0 unpacks from" in err
