from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail_lightning import ClassCounts, FeatureBank
from longtail_lightning._errors import LongTailError
from longtail_lightning.features import _storage as files

LABELS = [0, 2, 0, 3, 2, 0]
IDS = [f"{name}.jpg" for name in "abcdef"]
TEXTS = [f"a photo of a {name}" for name in ("cat", "dög", 'a "quoted"\nline', "", "mouse", "cat")]


def bank(views=1, dtype=torch.float32, **options):
    features = torch.randn(views, 6, 4, dtype=torch.float64).to(dtype)
    defaults = {"ids": IDS, "texts": TEXTS, "num_classes": 5, "class_names": list("vwxyz")}
    return FeatureBank.from_arrays(features, LABELS, **{**defaults, **options})


def test_what_it_holds():
    made = bank(views=2)
    assert (len(made), made.num_views, made.num_features, made.num_classes) == (6, 2, 4, 5)
    assert made.class_counts == ClassCounts([3, 0, 2, 1, 0])
    assert torch.equal(made.features, made.views[0])
    assert torch.equal(made.view(3), made.views[1])
    plain = FeatureBank.from_arrays(np.ones((6, 4), dtype=np.float16), np.array(LABELS))
    assert plain.dtype == torch.float16
    assert plain.num_classes == 4
    assert list(plain.ids) == [0, 1, 2, 3, 4, 5]
    assert plain.class_names == ["0", "1", "2", "3"]
    assert plain.texts is None
    assert repr(made) == "FeatureBank(6 x 4 float32, 2 views, 5 classes)"


def test_bfloat16_is_kept_exactly():
    features = torch.randn(6, 4).bfloat16()
    made = FeatureBank.from_arrays(features, LABELS)
    assert made.dtype == torch.float32
    assert torch.equal(made.features.bfloat16(), features)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("mmap", [True, False])
def test_save_and_load_give_the_same_bank(dtype, views, mmap, tmp_path):
    made = bank(views, dtype, fingerprint={"encoder": {"class": "Net", "checksum": "1"}})
    loaded = FeatureBank.load(made.save(tmp_path / "deep" / "bank"), mmap=mmap)
    assert loaded.dtype == dtype
    assert torch.equal(loaded.views, made.views)
    assert torch.equal(loaded.labels, made.labels)
    assert (loaded.ids, loaded.texts, loaded.class_names) == (IDS, TEXTS, list("vwxyz"))
    assert loaded.num_classes == 5
    assert loaded.fingerprint == made.fingerprint


def test_files_are_npy_and_json_without_pickle(tmp_path):
    folder = bank().save(tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "bank.json", "features.npy", "labels.npy", "ids.npy", "ids_offsets.npy", "texts.npy", "texts_offsets.npy",
    }  # fmt: skip
    for file in folder.glob("*.npy"):
        np.load(file, allow_pickle=False)
    assert bytes(np.load(folder / "texts.npy")).decode() == "".join(TEXTS)
    assert json.loads((folder / "bank.json").read_text())["format"] == files.FORMAT


def test_a_mapped_bank_never_changes_its_file(tmp_path):
    folder = bank().save(tmp_path)
    before = (folder / "features.npy").read_bytes()
    FeatureBank.load(folder).features.mul_(2)
    assert (folder / "features.npy").read_bytes() == before


def test_a_bank_that_could_not_be_copied_on_write_is_mapped_read_only(tmp_path, monkeypatch):
    folder = bank().save(tmp_path)
    load = np.load

    def refuse(path, *args, **options):
        if options.get("mmap_mode") == "c":
            raise OSError("Cannot allocate memory")
        return load(path, *args, **options)

    monkeypatch.setattr(np, "load", refuse)
    assert len(FeatureBank.load(folder)) == 6


def test_saving_over_the_bank_that_one_reads(tmp_path):
    made = bank()
    folder = made.save(tmp_path)
    loaded = FeatureBank.load(folder)
    loaded.subset([5, 0]).save(folder)
    assert torch.equal(loaded.features, made.features), "what is mapped stays what it was"
    again = FeatureBank.load(folder)
    assert torch.equal(again.features, made.features[[5, 0]])
    assert again.ids == ["f.jpg", "a.jpg"]


def test_subset():
    made = bank(views=2)
    part = made.subset([4, -1, 0])
    assert part.labels.tolist() == [2, 0, 0]
    assert torch.equal(part.views, made.views[:, [4, 5, 0]])
    assert part.ids == ["e.jpg", "f.jpg", "a.jpg"]
    assert part.texts == [TEXTS[4], TEXTS[5], TEXTS[0]]
    assert part.num_classes == 5
    assert made.subset(made.labels == 2).ids == ["b.jpg", "e.jpg"]
    with pytest.raises(LongTailError, match="The bank has 6 inputs, there is no input 6"):
        made.subset([6])
    with pytest.raises(LongTailError, match="without inputs is no bank"):
        made.subset([])


def test_batches_cover_the_bank_in_order(tmp_path):
    made = FeatureBank.load(bank(views=2, dtype=torch.float16).save(tmp_path))
    batches = list(made.batches(4, view=1))
    assert [len(labels) for _, labels in batches] == [4, 2]
    assert torch.equal(torch.cat([features for features, _ in batches]), made.views[1].float())
    assert torch.cat([labels for _, labels in batches]).tolist() == LABELS


def test_not_a_number_is_refused_with_the_first_ids():
    features = torch.zeros(2, 6, 4)
    features[0, 1, 2], features[1, 3, 0], features[0, 3, 1] = float("nan"), float("inf"), float("nan")
    with pytest.raises(LongTailError, match=r"Features of 2 of 6 inputs are NaN or infinite \(ids b.jpg, d.jpg\)"):
        FeatureBank.from_arrays(features, LABELS, IDS)
    features[:] = float("nan")
    with pytest.raises(LongTailError, match=r"6 of 6 inputs .* \(ids 0, 1, 2, \.\.\.\)"):
        FeatureBank.from_arrays(features, LABELS)


def test_a_large_bank_is_searched_in_pieces(monkeypatch):
    from longtail_lightning.features import _checks as module

    monkeypatch.setattr(module, "_CHUNK", 8)  # two rows at once
    features = torch.zeros(6, 4)
    features[5, 0] = float("nan")
    with pytest.raises(LongTailError, match=r"1 of 6 inputs .*\(ids 5\)"):
        FeatureBank.from_arrays(features, LABELS)


def test_classes_without_features_are_named_when_they_are_needed():
    made = bank()
    with pytest.raises(LongTailError, match=r"NCM needs .* none of 2 of 5 classes \(w, z\)"):
        made.require_all_classes("NCM")
    FeatureBank.from_arrays(torch.zeros(2, 3), [0, 1]).require_all_classes("NCM")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": torch.zeros(6)}, r"got shape \(6,\): flatten"),
        ({"features": torch.zeros(0, 4)}, "flatten"),
        ({"labels": [0, 1]}, "A bank of 6 inputs got 2 labels"),
        ({"ids": ["a"]}, "A bank of 6 inputs got 1 ids"),
        ({"texts": ["a"] * 7}, "A bank of 6 inputs got 7 texts"),
        ({"num_classes": 3}, r"labels\[3\] is 3, outside 0\.\.2"),
        ({"class_names": list("abcdef"), "num_classes": 5}, "A bank of 5 classes got 6 class_names"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(LongTailError, match=message):
        FeatureBank.from_arrays(**{"features": torch.zeros(6, 4), "labels": LABELS, **options})


def test_folders_that_are_no_banks(tmp_path):
    with pytest.raises(LongTailError, match="is no bank"):
        FeatureBank.load(tmp_path / "nothing")
    for split in ("val", "train"):
        bank().save(tmp_path / "several" / split)
    with pytest.raises(
        LongTailError, match=r"no bank, but a folder of banks \(train, val\): load one, such as '.*several/train'"
    ):
        FeatureBank.load(tmp_path / "several")
    (tmp_path / "file").write_text("")
    with pytest.raises(LongTailError, match="is a file, a bank is a folder"):
        bank().save(tmp_path / "file")
    with pytest.raises(LongTailError, match="cannot be written"):
        bank().save(tmp_path / "file" / "bank")
    folder = bank().save(tmp_path / "bank")
    (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:-8])
    with pytest.raises(LongTailError, match="is damaged"):
        FeatureBank.load(folder)
    folder = bank().save(tmp_path / "again")
    np.save(folder / "labels.npy", np.zeros(3, dtype=np.int64))
    with pytest.raises(LongTailError, match=r"is damaged \(A bank of 6 inputs got 3 labels: give one for each\)"):
        FeatureBank.load(folder)
    header = json.loads((Path(folder) / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(LongTailError, match="has format 99"):
        FeatureBank.load(folder)
    (folder / "bank.json").write_text("{")
    with pytest.raises(LongTailError, match=r"bank\.json is damaged"):
        FeatureBank.load(folder)


def test_pickled_arrays_are_never_opened(tmp_path):
    folder = bank().save(tmp_path)
    np.save(folder / "labels.npy", np.array([{}] * 6), allow_pickle=True)
    with pytest.raises(LongTailError, match="is damaged"):
        FeatureBank.load(folder)


def test_the_fingerprint_that_is_expected(tmp_path):
    told = {"encoder": {"class": "Net", "checksum": "abcdef0123456789"}}
    folder = bank(fingerprint=told).save(tmp_path)
    FeatureBank.load(folder, expect=told)
    other = {"encoder": {"class": "Net", "checksum": "9999"}}
    with pytest.raises(LongTailError, match="made by Net abcdef012345, not by Net 9999"):
        FeatureBank.load(folder, expect=other)
    with pytest.raises(LongTailError, match="made of an unknown data set, not of Mine val of 3 inputs"):
        FeatureBank.load(folder, expect={"data": {"name": "Mine", "split": "val", "number": 3}})
