from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.read_arrays import (
    as_uint8_images,
    class_names_in,
    has_split,
    read_images,
    read_source,
)

PIXELS = np.random.RandomState(0).randint(0, 256, (7, 5, 6, 3)).astype(np.uint8)
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.uint16),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).float() / 255,
        np.concatenate([PIXELS, PIXELS[..., :1]], axis=-1),
    ],
    ids=["hwc", "chw", "int64", "uint16", "float64", "float32", "tensor", "float tensor", "with transparency"],
)
def test_every_form_gives_the_same_images(images):
    assert torch.equal(as_uint8_images(images), EXPECTED)


@pytest.mark.parametrize("images", [PIXELS[..., 0], PIXELS[..., :1], PIXELS[:, None, :, :, 0]])
def test_grayscale_is_repeated(images):
    assert torch.equal(as_uint8_images(images), EXPECTED[:, :1].expand(-1, 3, -1, -1))


def test_bfloat16_images():
    half = torch.from_numpy(PIXELS).float().div(255).bfloat16()
    assert (as_uint8_images(half).int() - EXPECTED.int()).abs().max() <= 1


def test_more_images_than_one_piece():
    many = np.tile(PIXELS / 255, (300, 1, 1, 1))
    assert torch.equal(as_uint8_images(many)[-7:], EXPECTED)


def test_a_read_only_array_stays_as_it_is():
    images = PIXELS.copy()
    images.flags.writeable = False
    assert torch.equal(as_uint8_images(images), EXPECTED)


@pytest.mark.parametrize("shape", [(4, 3, 8, 3), (4, 1, 8, 1), (4, 5, 8, 6)])
def test_a_shape_that_does_not_tell_is_asked_about(shape):
    images = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(LongTailError, match=r"channels-last or channels-first .*: say layout='hwc' or layout='chw'"):
        as_uint8_images(images)


def test_the_layout_can_be_said():
    images = np.zeros((4, 3, 8, 3), dtype=np.uint8)
    assert as_uint8_images(images, "hwc").shape == (4, 3, 3, 8)
    assert as_uint8_images(images, "chw").shape == (4, 3, 8, 3)
    with pytest.raises(LongTailError, match="choose 'hwc' or 'chw'"):
        as_uint8_images(images, "HWC")
    with pytest.raises(LongTailError, match="have 8 channels as 'hwc'"):
        as_uint8_images(np.zeros((4, 3, 8, 8), dtype=np.uint8), "hwc")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS.astype(np.float32), r"from 0 to 255: .*\(divide by 255\)"),
        (PIXELS / 255 - 0.5, r"undo their normalization"),
        (np.full((2, 4, 4), np.nan), "from nan to nan"),
        (PIXELS.astype(np.int64) + 1, "from 1 to 256: give uint8"),
        (np.zeros((2, 4, 4), dtype=bool), "images are bool"),
        (np.zeros((2, 4), dtype=np.uint8), r"images of shape \(2, 4\) are neither"),
    ],
)
def test_values_that_are_no_images_are_named_with_the_fix(images, message):
    with pytest.raises(LongTailError, match=message):
        as_uint8_images(images)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("x_train", "y_train"),
        ("X_train", "Y_train"),
        ("train_images", "train_labels"),
        ("train_x", "train_y"),
        ("train_data", "train_targets"),
        ("images", "labels"),
        ("data", "targets"),
        ("x", "y"),
    ],
)
def test_the_usual_names(images, labels):
    dataset = read_images({images: PIXELS, labels: np.arange(7)}, "train", where="here")
    assert torch.equal(dataset.images, EXPECTED)
    assert dataset.labels.tolist() == list(range(7))


def test_splits_are_not_taken_for_each_other():
    arrays = {"x_train": PIXELS, "y_train": np.zeros(7), "x_valid": PIXELS[:2], "y_valid": np.ones((2, 1))}
    assert [has_split(arrays, split) for split in ("train", "val", "test")] == [True, True, False]
    assert read_images(arrays, "val", where="here").labels.tolist() == [1, 1]
    with pytest.raises(LongTailError, match=r"here has no images and labels for test \(it holds x_train, y_train, "):
        read_images(arrays, "test", where="here")


def test_other_names_can_be_said():
    arrays = {"pictures": PIXELS, "kinds": np.arange(7), "y_train": np.zeros(7)}
    keys = {"train_images": "pictures", "train_labels": "kinds"}
    assert read_images(arrays, "train", where="here", keys=keys).labels.tolist() == list(range(7))
    assert len(read_images(arrays, "test", where="here", keys={"images": "pictures", "labels": "kinds"})) == 7
    with pytest.raises(LongTailError, match="Did you mean train_images"):
        read_images(arrays, "train", where="here", keys={"train_image": "pictures"})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((7, 14)), r"here, train: labels have shape \(7, 14\), 14 numbers per image"),
        (np.zeros(6), "7 images but 6 labels"),
        (np.arange(7) - 1, "outside 0"),
        (np.array(list("abcdefg")), "must be whole numbers"),
    ],
)
def test_labels_that_are_none(labels, message):
    with pytest.raises(LongTailError, match=message):
        read_images({"images": PIXELS, "labels": labels}, "train", where="here")


def test_class_names_in_the_file():
    assert class_names_in({"classes": np.array(["cat", "dog"])}) == ["cat", "dog"]
    assert class_names_in({"class_names": ["cat"]}) == ["cat"]
    assert class_names_in({"images": PIXELS}) is None


def test_files(tmp_path):
    labels = np.arange(7)
    np.savez(tmp_path / "a b é.npz", images=PIXELS, labels=labels)
    np.savez_compressed(tmp_path / "small.npz", images=PIXELS, labels=labels)
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "y.npy", labels)
    torch.save({"images": torch.from_numpy(PIXELS), "labels": torch.arange(7)}, tmp_path / "named.pt")
    torch.save((torch.from_numpy(PIXELS), torch.arange(7)), tmp_path / "pair.pt")
    pair = [str(tmp_path / "x.npy"), tmp_path / "y.npy"]
    for source in (*(tmp_path / name for name in ("a b é.npz", "small.npz", "named.pt", "pair.pt")), pair):
        dataset = read_images(read_source(source), "train", where="here")
        assert torch.equal(dataset.images, EXPECTED)
        assert dataset.labels.tolist() == labels.tolist()


def test_a_file_is_never_written_to(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS.transpose(0, 3, 1, 2))
    np.save(tmp_path / "y.npy", np.arange(7))
    dataset = read_images(read_source((tmp_path / "x.npy", tmp_path / "y.npy")), "train", where="here")
    dataset.images.fill_(0)
    assert np.array_equal(np.load(tmp_path / "x.npy"), PIXELS.transpose(0, 3, 1, 2))


class Evil:
    def __reduce__(self):
        return (open, ("pwned", "w"))


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.array([Evil()] * 7, dtype=object)
    np.savez("bad.npz", images=PIXELS, labels=objects)
    np.save("bad.npy", objects)
    np.save("x.npy", PIXELS)
    torch.save({"images": PIXELS.tolist(), "labels": Evil()}, "bad.pt")
    for source in ("bad.npz", ("x.npy", "bad.npy"), "bad.pt"):
        with pytest.raises(LongTailError, match="not loaded because they could run code"):
            read_images(read_source(source), "train", where="here")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npz", "missing.npz does not exist"),
        ("folder", "folder is a folder, expected a file of arrays"),
        ("half.npz", r"half.npz cannot be read \(broken or incomplete\)"),
        ("empty.npz", "empty.npz cannot be read"),
        ("half.pt", "half.pt cannot be read"),
        ("one.npy", r"one.npy holds one array: give a pair"),
        ("table.csv", "table.csv is not an .npz, .npy or .pt file"),
        ("list.pt", "list.pt holds a list"),
        (("one.npy", "labels.txt"), "labels.txt: a pair"),
        (3, "Cannot read images from int"),
    ],
)
def test_wrong_files_are_named_with_the_fix(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    np.savez("whole.npz", images=PIXELS)
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    (tmp_path / "empty.npz").touch()
    torch.save(torch.zeros(500), "whole.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:300])
    np.save("one.npy", PIXELS)
    (tmp_path / "table.csv").write_text("a,b")
    torch.save([1, 2, 3], "list.pt")
    with pytest.raises(LongTailError, match=message):
        read_source(name)
