"""`ltl memory` and `ltl knn`: as a user with pictures would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtail_lightning import FeatureBank
from longtail_lightning.retrieval import RetrievalMemory
from tests.cli.conftest import MODEL, TINY


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import os

    from longtail_lightning.cli.main import main

    before, folder = Path.cwd(), tmp_path_factory.mktemp("run")
    os.chdir(folder)
    try:
        assert main(["fit", *MODEL, *TINY, "--trainer.max_epochs=1"]) == 0
    finally:
        os.chdir(before)
    (made,) = folder.rglob("last.ckpt")
    return made


def photos(folder, *names, number=4):
    for name in names:
        (Path(folder) / name).mkdir(parents=True)
        for i in range(number):
            pixels = np.random.default_rng([len(name), ord(name[0]), i]).integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path(folder) / name / f"{i}.png")
    return folder


@pytest.fixture
def memory(ltl, checkpoint):
    photos("photos", "cat", "dog")
    status, out, err = ltl("memory", "build", "m", "--ckpt_path", checkpoint, "--images", "photos", "--index=hnsw")
    assert status == 0, err
    assert out.splitlines() == ["memory      m", "items       8, 2 different texts"]
    return "m"


def test_from_pictures_to_edits(ltl, memory, checkpoint):
    photos("web", "axolotl")
    status, out, err = ltl("memory", "add", memory, "--name=web", "--ckpt_path", checkpoint, "--images", "web")
    assert status == 0, err
    assert out.splitlines() == ["items       8 -> 12", "sources     train, web"]
    words = ["memory", "search", memory, "--image", "web/axolotl/2.png", "--ckpt_path", checkpoint]
    status, out, err = ltl(*words, "--k=3", "--plot=sheet.png")
    assert status == 0, err
    assert out.splitlines()[0].split() == ["1.0000", "axolotl", "web", "web/axolotl/2.png"]
    with Image.open("sheet.png") as drawn:
        assert drawn.size[0] > 300
    assert (
        ltl("memory", "relabel", memory, "web/axolotl/2.png", "salamander")[1] == "text        axolotl -> salamander\n"
    )
    assert "salamander" in ltl(*words, "--k=1")[1]
    out = ltl("memory", "search", memory, "--item", "web/axolotl/2.png", "--k=11")[1]
    assert len(out.splitlines()) == 11
    assert "salamander" not in out, "an item does not find itself"
    told = ltl("memory", "info", memory)[1]
    assert "source      web: 4" in told
    assert "index       hnsw" in told
    assert ltl("memory", "remove", memory, "photos/cat/0.png", "photos/cat/1.png")[1] == "items       12 -> 10\n"
    assert ltl("memory", "compact", memory)[1].startswith("items       10\nsize")
    assert ltl("memory", "remove", memory, "--source=web")[1] == "items       10 -> 6\n"
    assert ltl("memory", "verify", memory) == (0, "m is whole\n", "")
    assert ltl("verify", memory) == (0, "m is whole\n", ""), "its banks are not read twice"
    assert RetrievalMemory.load(memory).sources == {"train": 6}


def test_from_a_bank(ltl):
    bank = FeatureBank.from_arrays(torch.eye(4), [0, 1, 1, 0], class_names=["cat", "dog"])
    bank.save("bank")
    assert ltl("memory", "build", "m", "--bank=bank")[0] == 0
    assert RetrievalMemory.load("m").text(2) == "dog"
    Path("texts.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    status, _, err = ltl("memory", "add", "m", "--name=more", "--bank=bank", "--texts=texts.txt")
    assert status == 0, err
    assert ltl("memory", "add", "m", "--name=one", "--bank=bank", "--text=wolf")[0] == 0
    found = RetrievalMemory.load("m")
    assert [found.text(("more", 2)), found.text(("one", 2))] == ["c", "wolf"]
    status, out, err = ltl("memory", "search", "m", "--item=2", "--source=more", "--k=2")
    assert status == 0, err
    assert {line.split()[2] for line in out.splitlines()} == {"train", "one"}
    assert ltl("memory", "remove", "m", "2", "--source=one")[0] == 0
    assert len(RetrievalMemory.load("m")) == 11


def test_a_damaged_file_is_named(ltl):
    FeatureBank.from_arrays(torch.eye(4), texts=list("abcd")).save("bank")
    assert ltl("memory", "build", "m", "--bank=bank")[0] == 0
    (features,) = Path("m").rglob("features.npy")
    content = bytearray(features.read_bytes())
    content[-3] ^= 1
    features.write_bytes(bytes(content))
    status, out, _ = ltl("memory", "verify", "m")
    assert status == 1
    assert "features.npy is not what was written" in out
    status, out, _ = ltl("verify", "m")
    assert status == 1
    assert "features.npy is not what was written" in out


def test_knn(ltl):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 8, generator=generator)
    labels = {"train": [0] * 120 + [1] * 40 + [2] * 6, "test": [0, 1, 2] * 20}
    for split, own in labels.items():
        features = means[own] + 0.6 * torch.randn(len(own), 8, generator=generator)
        FeatureBank.from_arrays(features, own, num_classes=3).save(split)
    status, out, err = ltl("knn", "train", "test", "--k=5", "--index=hnsw", "--out=report")
    assert status == 0, err
    assert "kNN-5" in out
    assert "index       hnsw of 166 items" in out
    record = json.loads(Path("report/knn.json").read_text())
    plain, adjusted = record["rows"]
    train, test = FeatureBank.load("train"), FeatureBank.load("test")
    cosines = torch.nn.functional.normalize(test.features) @ torch.nn.functional.normalize(train.features).T
    right = torch.zeros(3)
    for row, label in zip(cosines, test.labels.tolist()):
        near = train.labels[row.topk(5).indices]
        numbers = torch.bincount(near, minlength=3)
        right[label] += numbers[label] == numbers.max() and (numbers == numbers.max()).sum() == 1
    assert plain["all"] == pytest.approx(float(right.mean() / 20), abs=0.05)
    assert adjusted["few"] >= plain["few"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "m", "--bank=bank"], "is a memory already"),
        (["add", "m", "--name=x"], "Give pictures and the model"),
        (["add", "m", "--name=x", "--images=photos"], "Give pictures and the model"),
        (["add", "m", "--name=x", "--images=nowhere", "--ckpt_path=x.ckpt"], "nowhere: there is no such file"),
        (["add", "m", "--name=train", "--bank=bank"], "a source 'train' already"),
        (["add", "m", "--name=x", "--bank=bank", "--text=a", "--texts=b"], "give one of the two"),
        (["add", "m", "--name=x", "--bank=bank", "--texts=nowhere"], "--texts nowhere cannot be read"),
        (["remove", "m"], "Name the items to remove"),
        (["remove", "m", "9"], "no item '9'"),
        (["remove", "m", "--source=web"], "no source 'web'"),
        (["relabel", "m", "9", "x"], "no item '9'"),
        (["search", "m"], "Give a picture"),
        (["search", "m", "--image=x.png"], "--ckpt_path FILE is needed"),
        (["search", "m", "--item=1", "--k=4"], "k=4: the memory has 4 items, 3 without"),
        (["info", "nowhere"], "is not a memory"),
        (["verify", "nowhere"], "is not a memory"),
        (["find", "m"], "no command `ltl memory find`"),
    ],
)
def test_bad_input(ltl, words, message):
    FeatureBank.from_arrays(torch.eye(4), texts=list("abcd")).save("bank")
    assert ltl("memory", "build", "m", "--bank=bank")[0] == 0
    status, _, err = ltl("memory", *words)
    assert status == 2
    assert message in err


def test_another_encoder_is_named(ltl, memory, checkpoint):
    data = torch.load(checkpoint, weights_only=True)
    name = next(name for name in data["state_dict"] if name.startswith("backbone"))
    data["state_dict"][name] = data["state_dict"][name] + 1
    torch.save(data, "other.ckpt")
    for words in (["search", memory, "--image=photos/cat/0.png"], ["add", memory, "--name=x", "--images=photos"]):
        status, _, err = ltl("memory", *words, "--ckpt_path=other.ckpt")
        assert status == 2
        assert "was made by CIFARResNet" in err
