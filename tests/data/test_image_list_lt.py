from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtail_lightning import ImageListLT
from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.read_image_list import read_image_list
from tests.data import trees


def lists(**options):
    root = trees.lists(Path("places"))
    defaults = {"val_list": "My_LT_val.txt", "test_list": "My_LT_test.txt", "transforms": "none", "batch_size": 4}
    return ImageListLT(root, "My_LT_train.txt", **{**defaults, **options})


def test_the_layout_of_the_benchmarks():
    data = lists()
    assert data.class_counts.tolist() == [6, 3, 2]
    assert data.class_names == ["cat", "dog", "owl"]
    assert [len(data.labels(split)) for split in ("train", "val", "test")] == [11, 3, 6]
    data.setup("fit")
    images, labels, _ = next(iter(data.val_dataloader()))
    assert images.shape == (3, 3, 16, 20)
    assert labels.tolist() == [0, 1, 2]
    assert data.item_name(2) == "test/dog/0.jpg"


LINES = {
    "a/1.jpg 0": ("a/1.jpg", 0),
    "a/1.jpg,3": ("a/1.jpg", 3),
    "a/1.jpg, 3": ("a/1.jpg", 3),
    "a/1.jpg\t12": ("a/1.jpg", 12),
    "my photos/1 2.jpg 4": ("my photos/1 2.jpg", 4),
    "a, b/1.jpg,4": ("a, b/1.jpg", 4),
    "a,3/img 4": ("a,3/img", 4),
    '"a, b.jpg",4': ("a, b.jpg", 4),
    "鳥/ü.jpg  5 ": ("鳥/ü.jpg", 5),
    "a/1.jpg -1": ("a/1.jpg", -1),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("compressed", [False, True])
def test_lines(line, compressed):
    path, label = LINES[line]
    file = Path("a.txt.gz" if compressed else "a.txt")
    data = f"\ufeff{line}\r\n\r\nb.jpg 1\r\n".encode()
    file.write_bytes(gzip.compress(data) if compressed else data)
    files, labels = read_image_list(file)
    assert files == [path, "b.jpg"]
    assert labels.tolist() == [label, 1]


def test_file_names_that_are_not_utf8_lead_to_their_files(tmp_path):
    name = "caf\udce9.jpg"  # latin-1 on disk
    trees.image(Path("a") / "plain.jpg").rename(Path("a") / name)
    Path("a.txt").write_bytes(b"caf\xe9.jpg 0\n")
    data = ImageListLT("a", "a.txt", test_list="a.txt", transforms="none")
    data.setup("fit")
    assert next(iter(data.test_dataloader()))[0].shape == (1, 3, 16, 20)
    assert data.item_name(0).encode("utf-8")


def test_names_of_folders_only_when_each_class_has_its_own():
    trees.lists(Path("places"))
    Path("mixed.txt").write_text("train/cat/0.jpg 0\ntrain/dog/0.jpg 0\ntrain/owl/0.jpg 1\n")
    assert ImageListLT("places", "mixed.txt").class_names == ["0", "1"]
    Path("shared.txt").write_text("train/cat/0.jpg 0\ntrain/cat/1.jpg 1\n")
    assert ImageListLT("places", "shared.txt").class_names == ["0", "1"]


def test_names_given():
    Path("names.txt").write_text("a cat\na dog\nan owl\na whale\n")
    data = lists(class_names="names.txt")
    with pytest.warns(UserWarning, match=r"1 of 4 classes have no image in My_LT_train\.txt \(a whale\)"):
        assert data.class_counts.tolist() == [6, 3, 2, 0]
    assert data.class_names == ["a cat", "a dog", "an owl", "a whale"]
    with pytest.raises(LongTailError, match=r"2 class names, but the labels of My_LT_train\.txt run up to 2"):
        _ = lists(class_names=["a", "b"]).class_counts


def test_names_in_another_order_than_the_folders_are_told():
    with pytest.warns(UserWarning, match=r"those of the folders \(2 in all\): class 0 is called 'dog', and"):
        _ = lists(class_names=["dog", "cat", "owl"]).class_names


def test_labels_that_do_not_start_at_0():
    trees.lists(Path("places"))
    Path("one.txt").write_text("train/cat/0.jpg 1\ntrain/dog/0.jpg 2\ntrain/dog/1.jpg 2\n")
    with pytest.raises(LongTailError, match=r"one\.txt run from 1 to 2, class indices start at 0: relabel=true"):
        _ = ImageListLT("places", "one.txt").class_counts
    data = ImageListLT("places", "one.txt", test_list="one.txt", relabel=True)
    assert data.class_counts.tolist() == [1, 2]
    assert data.labels("test").tolist() == [0, 1, 1]
    assert data.class_names == ["cat", "dog"]
    Path("negative.txt").write_text("train/cat/0.jpg -1\ntrain/dog/0.jpg 0\n")
    with pytest.raises(LongTailError, match="run from -1 to 0"):
        _ = ImageListLT("places", "negative.txt").class_counts


def test_gaps_are_told_and_stay():
    trees.lists(Path("places"))
    Path("gap.txt").write_text("train/cat/0.jpg 0\ntrain/dog/0.jpg 3\n")
    with pytest.warns(UserWarning, match=r"2 of 4 classes have no image in gap\.txt \(1, 2\): .* relabel=true leaves"):
        assert ImageListLT("places", "gap.txt").class_counts.tolist() == [1, 0, 0, 1]
    assert ImageListLT("places", "gap.txt", relabel=True).class_counts.tolist() == [1, 1]


def test_a_test_class_that_training_lacks():
    trees.lists(Path("places"))
    Path("test.txt").write_text("test/cat/0.jpg 0\ntest/owl/0.jpg 2\ntest/dog/0.jpg 3\n")
    Path("train.txt").write_text("train/cat/0.jpg 0\ntrain/dog/0.jpg 1\n")
    data = ImageListLT("places", "train.txt", test_list="test.txt")
    with pytest.raises(LongTailError, match=r"test\.txt has 2 classes that train\.txt lacks \(2, 3\)"):
        data.setup("fit")


def test_files_that_do_not_exist(tmp_path):
    data = lists()
    for number in (1, 2, 3, 4):
        Path(f"places/train/cat/{number}.jpg").unlink()
    with pytest.raises(LongTailError, match=r"4 of 11 files of My_LT_train\.txt do not exist below places \(train/c"):
        data.setup("fit")
    with pytest.raises(LongTailError, match=r"train/cat/2\.jpg, train/cat/3\.jpg, \.\.\.\)"):
        data.setup("fit")
    data.setup("test")
    lists(check_files=False).setup("fit")


@pytest.mark.parametrize("root", ["places/train", ".", "places/train/cat"])
def test_a_root_at_the_wrong_level(root):
    trees.lists(Path("places"))
    data = ImageListLT(root, "places/My_LT_train.txt")
    with pytest.raises(LongTailError, match=r"They lie below .*places: pass that as root"):
        data.setup("fit")


def test_validation_images_without_class_folders():
    data = lists()
    for number, path in enumerate(sorted(Path("places/test").rglob("*.jpg"))):
        path.rename(Path("places/test") / path.name) if number == 0 else path.unlink()
    with pytest.raises(LongTailError, match="lie flat in places/test: move each into the folder that the list names"):
        data.setup("test")


def test_archives_that_were_not_unpacked():
    trees.lists(Path("places"))
    Path("empty").mkdir()
    Path("empty/places.tar").touch()
    with pytest.raises(LongTailError, match=r"empty holds archives \(places\.tar\): unpack them first"):
        ImageListLT("empty", "places/My_LT_train.txt").setup("fit")


def test_counts_need_no_images():
    trees.lists(Path("places"))
    data = ImageListLT("not/here", "places/My_LT_train.txt")
    assert data.class_counts.tolist() == [6, 3, 2]
    with pytest.raises(LongTailError, match=r"not/here does not exist .*Expected a folder such as\nroot/\n  train/"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad.txt is empty, expected one `path label` per line"),
        ("train/cat/0.jpg 0\ntrain/cat/1.jpg\n", "bad.txt, line 2: 'train/cat/1.jpg' is not `path label`.*correct"),
        ("path,label\n", "bad.txt, line 1: 'path,label' is not `path label`.*CSVLT reads tables"),
        ("PK\x03\x04\0", "bad.txt is not a text file"),
    ],
)
def test_bad_lists(text, message):
    Path("bad.txt").write_text(text)
    with pytest.raises(LongTailError, match=message):
        _ = ImageListLT(".", "bad.txt").class_counts


def test_nothing_to_test_or_predict():
    dm = lists(test_list=None)
    dm.setup("fit")
    for loader in (dm.test_dataloader, dm.predict_dataloader):
        with pytest.raises(LongTailError, match="ImageListLT has no test split: pass test_list"):
            loader()


def test_a_list_that_does_not_exist():
    trees.lists(Path("places"))
    with pytest.raises(LongTailError, match=r"train_list: there is no file My_LT_trian\.txt.*Did you mean My_LT_train"):
        _ = ImageListLT("places", "My_LT_trian.txt").class_counts


def test_a_long_tailed_subset_of_a_list():
    data = lists(imbalance_factor=3)
    assert data.class_counts.tolist() == [3, 2, 1]
    assert data.class_names == ["cat", "dog", "owl"]
    assert data.subset_id.name == "ImageListLT-exp-3"


def test_images_of_many_kinds():
    trees.lists(Path("places"))
    kinds = {"gray.png": "L", "palette.gif": "P", "alpha.webp": "RGBA", "print.jpg": "CMYK"}
    for name, mode in kinds.items():
        Image.new(mode, (20, 16)).save(Path("places") / name)
    Path("kinds.txt").write_text("".join(f"{name} 0\n" for name in kinds))
    data = ImageListLT("places", "kinds.txt", transforms="none")
    images, *_ = next(iter(data.train_dataloader()))
    assert images.shape == (4, 3, 16, 20)
    assert images.dtype == torch.uint8


def test_loading_processes_read_the_same():
    alone, shared = lists(), lists(num_workers=2)
    for one, other in zip(alone.val_dataloader(), shared.val_dataloader()):
        assert torch.equal(one[0], other[0])
