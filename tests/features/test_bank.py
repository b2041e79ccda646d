from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail_lightning import ClassCounts, FeatureBank, LongTailError, NearestClassMeanHead
from longtail_lightning._files import locked
from longtail_lightning.features._checks import NotFiniteError
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.features._storage import FORMAT, DamagedBankError
from longtail_lightning.features._strings import Strings

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
    assert json.loads((folder / "bank.json").read_text())["format"] == FORMAT


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


def test_a_save_that_is_stopped_leaves_the_old_bank(tmp_path, monkeypatch):
    from longtail_lightning.features import _storage

    made = bank()
    folder = made.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(_storage, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bank().save(folder)
    assert torch.equal(FeatureBank.load(folder, verify=True).features, made.features)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_save_over_an_unfinished_extraction_ends_it(tmp_path, monkeypatch):
    from longtail_lightning.features import _storage

    (tmp_path / "extraction.json").write_text("{}")
    (tmp_path / "done").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(_storage, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bank().save(tmp_path)
    assert not (tmp_path / "extraction.json").exists(), "its shards are no longer there"
    bank().save(tmp_path)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_saved_while_a_bank_is_opened_is_not_mixed_with_it(tmp_path, monkeypatch, number):
    from longtail_lightning.features import _storage

    read, others = _storage.read_array, [bank(ids=None, texts=list("uvwxyz")) for _ in range(number)]
    old = bank()
    old.save(tmp_path)

    def read_late(path, **options):
        array = read(path, **options)
        while others:  # with two, the files have the names of the first bank again
            old.subset(range(6)).save(tmp_path) if len(others) > 1 else others[0].save(tmp_path)
            others.pop()
        return array

    last = others[0]
    monkeypatch.setattr(_storage, "read_array", read_late)
    found = FeatureBank.load(tmp_path)
    assert torch.equal(found.views, last.views)
    assert found.texts == last.texts


@pytest.mark.parametrize(
    "header", [b"\0" * 60, b"{'descr': (" + b" " * 50, b"{'shape': (99999999999999,), 'fortran_order': 0}"]
)
def test_a_header_of_an_array_that_is_no_python(tmp_path, header):
    folder = bank().save(tmp_path)
    content = (folder / "features.npy").read_bytes()
    (folder / "features.npy").write_bytes(content[:10] + header + content[10 + len(header) :])
    for mmap in (False, True):
        with pytest.raises(LongTailError, match="is damaged"):
            FeatureBank.load(folder, mmap=mmap)


def test_views_start_again_after_the_last():
    made = FeatureBank.from_arrays(torch.arange(24.0).reshape(3, 4, 2))
    assert [float(made.view(index)[0, 0]) for index in range(5)] == [0.0, 8.0, 16.0, 0.0, 8.0]


def test_two_do_not_write_at_once(tmp_path):
    with locked(tmp_path), pytest.raises(LongTailError, match="Another process is writing to"):
        bank().save(tmp_path)
    folder = bank().save(tmp_path)
    with locked(folder):
        assert len(FeatureBank.load(folder)) == 6, "who reads need not wait"


def test_nothing_changes_a_bank():
    made = bank()
    for name in ("views", "features", "labels", "ids", "texts", "num_classes", "class_names", "fingerprint", "path"):
        with pytest.raises(AttributeError):
            setattr(made, name, None)
    more = made.with_num_classes(7)
    assert (more.num_classes, more.class_names, more.class_counts.tolist()) == (
        7,
        list("0123456"),
        [3, 0, 2, 1, 0, 0, 0],
    )
    assert (made.num_classes, made.class_names, made.class_counts.tolist()) == (5, list("vwxyz"), [3, 0, 2, 1, 0])
    assert made.with_num_classes(5) is made
    assert (more.ids, more.texts, more.views.data_ptr()) == (IDS, TEXTS, made.views.data_ptr())
    with pytest.raises(LongTailError, match="has 5 classes, which cannot become 4"):
        made.with_num_classes(4)


@pytest.mark.parametrize("given", [LABELS, [[1, 0]] * 6])
def test_nor_does_what_was_given(given):
    labels, fingerprint = torch.tensor(given), {"data": {"split": "train"}}
    made = FeatureBank.from_arrays(torch.zeros(6, 4), labels, fingerprint=fingerprint)
    labels[:] = 1
    fingerprint["data"]["split"] = "test"
    assert made.labels.tolist() == given
    assert made.fingerprint == {"data": {"split": "train"}}


def test_arrays_that_torch_cannot_share(tmp_path):
    values = np.arange(24.0).reshape(6, 4)
    for array in (values[::-1], values.astype(">f8"), values.T.reshape(4, 6).T):
        assert torch.equal(FeatureBank.from_arrays(array).features, torch.tensor(array.astype(float).tolist()).double())
    small = FeatureBank.from_arrays(torch.tensor(values).to(torch.float8_e5m2))
    assert FeatureBank.load(small.save(tmp_path)).dtype == torch.float32


@pytest.mark.parametrize("mmap", [True, False])
def test_a_bank_without_labels(tmp_path, mmap):
    made = FeatureBank.from_arrays(torch.randn(6, 4), ids=IDS, texts=TEXTS)
    loaded = FeatureBank.load(made.save(tmp_path), mmap=mmap)
    assert "labels.npy" not in {path.name for path in tmp_path.iterdir()}
    for each in (made, loaded, loaded.subset([1, 0]).subset([1, 0])):
        assert (each.labels, each.num_classes, each.class_names, each.multi_hot) == (None, 0, [], False)
        assert each.ids[:2] == IDS[:2]
    assert repr(loaded) == "FeatureBank(6 x 4 float32, no labels)"
    (batch,) = loaded.batches()
    assert (batch[0].equal(made.features), batch[1]) == (True, None)
    for needs in (
        lambda: loaded.class_counts,
        lambda: loaded.require_all_classes("NCM"),
        lambda: loaded.require_single_labels("tau"),
        lambda: NearestClassMeanHead(4, 2).fit(loaded),
        lambda: class_accuracy(torch.nn.Linear(4, 2), loaded),
    ):
        with pytest.raises(LongTailError, match=r"needs (labels|one label per input)"):
            needs()
    assert FeatureBank.from_arrays(torch.zeros(2, 3), class_names=["a", "b"]).num_classes == 2


MULTI_HOT = [[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows).float()])
def test_multi_hot_labels(tmp_path, kind):
    made = FeatureBank.from_arrays(torch.randn(6, 4), kind(MULTI_HOT))
    loaded = FeatureBank.load(made.save(tmp_path))
    for each in (made, loaded):
        assert (each.labels.tolist(), each.labels.dtype) == (MULTI_HOT, torch.uint8)
        assert (each.num_classes, each.multi_hot) == (3, True)
        assert each.class_counts.tolist() == [4, 1, 3]
    assert repr(loaded) == "FeatureBank(6 x 4 float32, 3 classes, multi-hot)"
    assert loaded.subset([2, 1]).class_counts.tolist() == [1, 1, 1]
    assert loaded.with_num_classes(4).class_counts.tolist() == [4, 1, 3, 0]
    for needs in (
        lambda: loaded.require_single_labels("tau"),
        lambda: NearestClassMeanHead(4, 3).fit(loaded),
        lambda: class_accuracy(torch.nn.Linear(4, 3), loaded),
    ):
        with pytest.raises(LongTailError, match="needs one label per input"):
            needs()


def test_ids_keep_their_type(tmp_path):
    for ids in (np.array([5, 3, 2, 9, 8, 7]), [5, 3, 2, 9, 8, 7], torch.tensor([5, 3, 2, 9, 8, 7])):
        loaded = FeatureBank.load(bank(ids=ids).save(tmp_path))
        assert loaded.ids == [5, 3, 2, 9, 8, 7]
        assert {type(one) for one in loaded.ids} == {int}
        assert loaded.subset([1, -1]).ids == [3, 7]
    numbered = FeatureBank.load(bank(ids=None).save(tmp_path))
    assert numbered.ids == range(6)
    assert numbered.subset([4, 2]).ids == [4, 2], "it stays what it was in the split"
    assert FeatureBank.load(numbered.subset([4, 2]).save(tmp_path)).ids == [4, 2]


def test_ids_and_texts_are_mapped_and_no_string_is_made(tmp_path, monkeypatch):
    folder = bank().save(tmp_path)
    monkeypatch.setattr(Strings, "_item", lambda *_: pytest.fail("a Python string was made"))
    loaded = FeatureBank.load(folder)
    assert isinstance(loaded.texts.text, np.memmap)
    assert isinstance(loaded.ids.offsets, np.memmap)
    loaded.subset(torch.tensor([3, 1])).with_num_classes(9).save(tmp_path / "part")


def rewrite(folder, **changes):
    header = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps({**header, **changes}))


def replace(name, array, folder):
    np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (partial(replace, "labels", np.array([0, 2, 0, 5, 2, 0])), r"labels\[3\] is 5, outside 0\.\.4"),
        (partial(replace, "labels", np.array([0, 2, 0, -1, 2, 0])), r"labels\[3\] is -1, outside"),
        (partial(replace, "labels", np.zeros(6)), r"labels are torch\.float64 of shape \(6,\)"),
        (partial(replace, "labels", np.full((6, 5), 2, np.uint8)), "must be multi-hot"),
        (partial(replace, "labels", np.zeros((6, 4), np.uint8)), r"of shape \(6, 4\) for 5 classes"),
        (partial(replace, "ids_offsets", np.array([0, 1])), "the offsets of ids do not go from 0"),
        (partial(replace, "texts_offsets", np.array([0, 108])), "of 6 inputs got 1 texts"),
        (partial(replace, "features", np.zeros((1, 6, 4))), r"bank\.json tells \[1, 6, 4\] of float32"),
        (lambda folder: rewrite(folder, files={"features": {}}), r"bank\.json does not tell the file of its features"),
        (partial(replace, "features", np.zeros(6)), r"features are float64 of shape \(6,\)"),
        (lambda folder: rewrite(folder, class_names=["a"]), "A bank of 5 classes got 1 class_names"),
        (lambda folder: rewrite(folder, num_classes=3, class_names=None), r"labels\[3\] is 3, outside 0\.\.2"),
        (lambda folder: rewrite(folder, num_classes=None), r"bank\.json has no num_classes"),
        (lambda folder: (folder / "bank.json").write_text("[]"), r"bank\.json is damaged"),
    ],
)
def test_what_does_not_fit_is_found_when_a_bank_is_opened(tmp_path, damage, message):
    folder = bank().save(tmp_path)
    damage(folder)
    with pytest.raises(DamagedBankError, match=message):
        FeatureBank.load(folder)


def test_a_bank_of_an_older_version_is_told_and_replaced(tmp_path):
    for name in ("features.npy", "labels.npy"):
        np.save(tmp_path / name, np.zeros(3))
    (tmp_path / "ids.jsonl").write_text('"a"\n')
    (tmp_path / "bank.json").write_text(json.dumps({"format": 1, "fingerprint": {}}))
    with pytest.raises(LongTailError, match="has format 1, this version of the library reads 2: extract the feat"):
        FeatureBank.load(tmp_path)
    assert len(FeatureBank.load(bank().save(tmp_path), verify=True)) == 6
    assert not (tmp_path / "ids.jsonl").exists()
    assert not (tmp_path / "features.npy").exists(), "the old one stayed until the new one was there"


def test_the_error_of_features_that_are_no_numbers_goes_to_other_processes():
    features = torch.zeros(6, 4).half()
    features[1:5] = torch.inf
    with pytest.raises(NotFiniteError) as caught:
        FeatureBank.from_arrays(features, LABELS, IDS)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.dtype, error.number, error.names) == (torch.float16, 4, ("b.jpg", "c.jpg", "d.jpg"))
        assert str(error) == str(caught.value)
        assert "store them as float32" in str(error)


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
    with pytest.raises(LongTailError, match="without inputs is not a bank"):
        made.subset([])
    with pytest.raises(LongTailError, match="A bank of 6 inputs got 2 truth values"):
        made.subset([True, False])
    for wrong in (3, [0.5], [[0, 1]]):
        with pytest.raises(LongTailError, match="by a list of whole numbers or truth values"):
            made.subset(wrong)
    with pytest.raises(LongTailError, match="by numbers of inputs or truth values"):
        made.subset(slice(2))


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
        ({"features": np.full((6, 4), "a")}, "features must be an array or a tensor of numbers"),
        ({"labels": [[1, 0], [1]] * 3}, "labels must be a row of 0 and 1 for each input"),
        ({"labels": [0, 1]}, "A bank of 6 inputs got 2 labels"),
        ({"ids": ["a"]}, "A bank of 6 inputs got 1 ids"),
        ({"texts": ["a"] * 7}, "A bank of 6 inputs got 7 texts"),
        ({"labels": [[1, 0]] * 5}, "A bank of 6 inputs got 5 labels"),
        ({"labels": [[1, 2]] * 6}, "must be multi-hot, 0 and 1 only"),
        ({"labels": [[1, 0]] * 6, "num_classes": 3}, r"shape \(6, 2\) are of 2 classes, not of 3"),
        ({"ids": ["a", 1, 2, 3, 4, 5]}, r"ids\[1\] is 1, not a string"),
        ({"texts": ["a", None, "", "", "", ""]}, r"texts\[1\] is None, not a string: give strings, '' where"),
        ({"num_classes": 3}, r"labels\[3\] is 3, outside 0\.\.2"),
        ({"class_names": list("abcdef"), "num_classes": 5}, "A bank of 5 classes got 6 class_names"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(LongTailError, match=message):
        FeatureBank.from_arrays(**{"features": torch.zeros(6, 4), "labels": LABELS, **options})


def test_folders_that_are_no_banks(tmp_path):
    with pytest.raises(LongTailError, match="is not a bank"):
        FeatureBank.load(tmp_path / "nothing")
    for split in ("val", "train"):
        bank().save(tmp_path / "several" / split)
    with pytest.raises(
        LongTailError, match=r"not a bank, but a folder of banks \(train, val\): load one, such as '.*several/train'"
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
