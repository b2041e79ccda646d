from __future__ import annotations

import io
import json
import os
import re
import signal
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from longtail_lightning import CSVLT, ConcatLT, ImageFolderLT, ImageList, ImageListLT, check_images, prepare_shards
from longtail_lightning._errors import LongTailError
from longtail_lightning.curation._checked_splits import checked_splits_of
from longtail_lightning.curation._probe import BROKEN, ODD
from longtail_lightning.curation.check import check_splits
from longtail_lightning.curation.clean_lists import list_files, write_lists
from longtail_lightning.curation.data_report import FAULTS, NOTES, Fault
from tests.curation.faults import CLASSES, clean_tree, lists, picture, plant


def found(report) -> dict[str, set[str]]:
    kinds = defaultdict(set)
    for fault in report.faults:
        assert fault.where not in kinds[fault.kind], f"told twice: {fault}"
        kinds[fault.kind].add(fault.where)
    return dict(kinds)


def of_lists(root: Path) -> ImageListLT:
    return ImageListLT(root, "train.txt", "val.txt", "test.txt")


def test_there_are_thirteen_kinds_of_faults():
    assert len(FAULTS) == 13
    assert set(BROKEN) <= set(FAULTS)
    assert set(ODD) == set(NOTES)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_planted_fault_of_a_folder_is_found_and_nothing_else(tmp_path, workers):
    planted = plant(clean_tree(tmp_path))
    report = check_images(ImageFolderLT(tmp_path), num_workers=workers)
    assert found(report) == planted
    assert not report.clean


def test_every_planted_fault_of_lists_is_found_and_nothing_else(tmp_path):
    planted = plant(clean_tree(tmp_path))
    lists(tmp_path, first=1)
    del planted["stray"]  # nobody looks for what a list does not name
    planted |= {"gap": {"class 5"}, "unknown": {"class 7"}, "single": {"class 6"}, "start": {"labels from 1 to 7"}}
    report = check_images(of_lists(tmp_path))
    assert found(report) == planted
    assert report.class_counts == [9, 5, 5, 3, 0, 1, 0]
    assert report.class_names[0] == "1"


def test_each_of_the_thirteen_kinds_is_planted_by_one_of_these_tests(tmp_path):
    assert {*plant(clean_tree(tmp_path)), "start"} == set(FAULTS)


def test_a_clean_tree_has_no_faults(tmp_path):
    clean_tree(tmp_path)
    (tmp_path / "README.md").write_text("where these images are from")
    (tmp_path / "train/ant/.DS_Store").touch()
    lists(tmp_path)
    for data in (ImageFolderLT(tmp_path), of_lists(tmp_path)):
        for pixels in (False, True):
            report = check_images(data, pixels=pixels)
            assert report.faults == []
            assert report.notes == []
            assert report.clean
            assert report.read == sum(report.images.values()) == sum(CLASSES.values()) + 3 * len(CLASSES)
            assert report.class_counts == list(CLASSES.values())


def test_a_check_leaves_the_data_module_as_it_was(tmp_path):
    clean_tree(tmp_path)
    lists(tmp_path, first=1)
    data = of_lists(tmp_path)
    assert check_images(data).count("start") == 1
    with pytest.raises(LongTailError, match="class indices start at 0"):
        _ = data.class_counts


def test_the_details_say_which_other_file_it_is(tmp_path):
    plant(clean_tree(tmp_path))
    details = {(fault.kind, fault.where): fault.detail for fault in check_images(ImageFolderLT(tmp_path)).faults}
    assert details["duplicate", "train/ant/copy.jpg"] == "same as train/ant/0 a.jpg"
    assert details["contradiction", "train/cat/wrong.jpg"] == "label 2, but 0 as train/ant/2 a.jpg"
    assert details["leak", "val/bee/leaked.jpg"] == "also in test: test/bee/0 a.jpg"
    assert details["unknown", "class 6 (gnu)"] == "1 in test"
    assert details["missing", "train/ant/link.jpg"] == "a link to nowhere"
    assert details["unreadable", "val/cat/page.jpg"] == "no known image format"


def test_labels_of_any_kind():
    def kinds(train, test=()):
        parts = {"train": labeled(train), **({"test": labeled(test)} if test else {})}
        return found(check_images(parts))

    assert kinds([0, 0, 1, 1]) == {}
    assert kinds([0, 0, 2, 2]) == {"gap": {"class 1"}}
    assert kinds([0, 0, 1, 1], [2]) == {"unknown": {"class 2"}}
    assert kinds([1, 1, 2, 2], [0]) == {"unknown": {"class 0"}}
    assert kinds([3, 3, 4], [4]) == {"start": {"labels from 3 to 4"}, "single": {"class 4"}}


class labeled(Dataset):
    """Images that all differ, not only within a data set."""

    drawn = 0

    def __init__(self, labels):
        self.labels = list(labels)
        self.first = labeled.drawn
        labeled.drawn += len(self.labels)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return np.array(picture(self.first + index)), self.labels[index]


def test_class_numbers_that_cannot_be_any():
    with pytest.raises(LongTailError, match="which would make 1,000,000,001 classes of 2 images"):
        check_images({"train": labeled([0, 10**9])})


def test_the_largest_image_is_that_of_the_data_module(tmp_path):
    clean_tree(tmp_path)
    for limit, huge in ((24 * 20, 0), (24 * 20 - 1, 27)):
        data = ImageFolderLT(tmp_path, max_pixels=limit)
        assert check_images(data).count("huge") == huge
        if huge:
            with pytest.raises(LongTailError, match=r"has 24 x 20 pixels, more than max_pixels=479"):
                prepare_shards(data, tmp_path / "shards", resize=8)


def test_the_same_pixels_in_another_file_are_found_when_asked(tmp_path):
    picture(0).save(tmp_path / "a.png", compress_level=0)
    picture(0).save(tmp_path / "b.png", compress_level=9)
    picture(1).save(tmp_path / "c.png")
    train = ImageList(["a.png", "b.png", "c.png"], [0, 0, 0], root=tmp_path)
    assert found(check_images({"train": train})) == {}
    assert found(check_images({"train": train}, pixels=True)) == {"duplicate": {"b.png"}}


def test_odd_images_are_told_but_no_faults(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0).save(tmp_path / "rotated.jpg", exif=exif)
    exif[0x0112] = 1
    picture(1).save(tmp_path / "upright.jpg", exif=exif)
    picture(2, 1, 1).save(tmp_path / "pixel.png")
    picture(3, 700, 20).save(tmp_path / "long.jpg")
    picture(4).convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 100).save(tmp_path / "deep.png")
    frames = [picture(5), picture(6)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=frames[1:])
    names = sorted(path.name for path in tmp_path.iterdir())
    report = check_images({"train": ImageList(names, [0] * len(names), root=tmp_path)})
    assert report.faults == []
    assert {(note.kind, note.where) for note in report.notes} == {
        ("rotated", "rotated.jpg"),
        ("tiny", "pixel.png"),
        ("elongated", "long.jpg"),
        ("cmyk", "print.jpg"),
        ("deep", "deep.png"),
        ("animated", "moving.gif"),
    }


def test_subsets_joined_sets_and_folders_of_torchvision(tmp_path):
    clean_tree(tmp_path)
    (tmp_path / "train/ant/0 a.jpg").write_bytes(b"")
    folder = ImageFolder(tmp_path / "train")
    joined = ConcatDataset([Subset(folder, range(3)), Subset(folder, range(3, len(folder)))])
    report = check_images({"train": joined}, class_names=folder.classes)
    assert found(report) == {"empty": {str(tmp_path / "train/ant/0 a.jpg")}}
    assert report.class_counts == list(CLASSES.values())


@pytest.mark.filterwarnings("ignore")  # what the readers say about this tree
def test_parts_that_are_joined(tmp_path):
    for name in ("a", "b"):
        plant(clean_tree(tmp_path / name))
    data = ConcatLT([ImageFolderLT(tmp_path / name, val_split=0) for name in ("a", "b")], names=["a", "b"])
    report = check_images({"train": data.build("train")})
    assert {fault.where for fault in report.faults if fault.kind == "empty"} == {
        "a/train/ant/empty.jpg",
        "b/train/ant/empty.jpg",
    }
    assert report.count("truncated") == 2
    assert "b/train/ant/0 a.jpg" in found(report)["duplicate"]


def test_images_in_a_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    contents = []
    for seed in (0, 1, 2, 0):
        file = io.BytesIO()
        picture(seed).save(file, "PNG")
        contents.append(file.getvalue())
    table = pa.table({"path": [*contents, b""], "label": ["cat", "cat", "dog", "dog", "dog"]})
    parquet.write_table(table, tmp_path / "all.parquet")
    data = CSVLT(tmp_path / "all.parquet")
    report = check_images(data)
    assert found(report) == {
        "empty": {"all.parquet:4"},
        "contradiction": {"all.parquet:0", "all.parquet:3"},
    }
    with pytest.raises(LongTailError, match="not in files of their own"):
        list_files("list", checked_splits_of(data))


def test_images_in_memory_are_compared_by_their_pixels():
    images = torch.stack([torch.full((3, 16, 16), i, dtype=torch.uint8) for i in (1, 2, 1, 3)])
    train, test = TensorDataset(images, torch.tensor([0, 0, 0, 0])), TensorDataset(images[1:2], torch.tensor([0]))
    assert found(check_images({"test": test, "train": train})) == {"duplicate": {"train[2]"}, "leak": {"train[1]"}}


def test_a_file_that_is_listed_twice(tmp_path):
    picture(0).save(tmp_path / "a.png")
    report = check_images({"train": ImageList(["a.png", "a.png"], [0, 0], root=tmp_path)})
    assert [(fault.where, fault.detail) for fault in report.faults] == [("a.png", "listed twice")]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    report = check_images({"train": ImageList(["a.png"], [0], root=tmp_path)})
    assert report.faults[-1] == Fault("unreadable", "a.png", "train", "Permission denied")


# -- clean lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_lists", [False, True])
def test_clean_lists_are_clean_and_can_be_read(tmp_path, as_lists):
    planted = plant(clean_tree(tmp_path))
    lists(tmp_path, first=1)
    before = state(tmp_path)
    parts = checked_splits_of(of_lists(tmp_path) if as_lists else ImageFolderLT(tmp_path))
    report = check_splits(parts)
    folder = tmp_path / "clean"
    files = {name: folder / path for name, path in list_files("list", parts).items()}
    written = write_lists(parts, report, files)
    assert state(tmp_path) == before

    clean = ImageListLT(
        tmp_path, files["train"], files["val"], files["test"], class_names=files["classes"], val_split=0.0
    )
    again = check_images(clean)
    assert found(again) == {"single": {"class 4 (6)" if as_lists else "class 4 (fox)"}}, "nobody leaves out a class"
    assert again.images == written
    names = ["1", "2", "3", "4", "6"] if as_lists else ["ant", "bee", "cat", "dog élan", "fox"]
    assert clean.class_names == names
    gone = {
        split: {file for file in listed(tmp_path, split) if file not in listed_in(files[split])}
        for split in files
        if split != "classes"
    }
    bad = set().union(
        *(
            planted[kind]
            for kind in ("missing", "empty", "truncated", "unreadable", "huge", "duplicate", "contradiction", "leak")
        )
    )
    assert gone["train"] == {file for file in bad if file.startswith("train/")}
    assert gone["val"] == {file for file in bad if file.startswith("val/")}
    assert gone["test"] == {"test/bee/half.png", "test/gnu/1.jpg"}, "nothing else: scores are compared on it"


def state(root: Path) -> dict[str, int]:
    """When each file was changed, without the clean lists."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    return {name: path.lstat().st_mtime_ns for name, path in files.items() if not name.startswith("clean")}


def listed_in(file: Path) -> set[str]:
    return {line.rpartition(" ")[0] for line in file.read_text(encoding="utf-8").splitlines()}


def listed(root: Path, split: str) -> set[str]:
    return listed_in(root / f"{split}.txt")


def test_names_that_lists_can_hold_only_in_quotes(tmp_path):
    names = [" begins with a space.png", 'a "quote".png', "comma,.png", "two\nlines.png", "plain.png"]
    for seed, name in enumerate(names):
        picture(seed).save(tmp_path / name)
    (tmp_path / "d").mkdir()
    picture(9).save(tmp_path / "d/x.png")
    train = ImageList([*names, "d/x.png"], [0, 0, 0, 0, 1, 1], root=tmp_path)
    parts = checked_splits_of({"train": train})
    files = list_files("good.txt", parts)
    assert files == {"train": Path("good.txt"), "classes": Path("good_classes.txt")}
    assert write_lists(parts, check_splits(parts), files) == {"train": 5}
    data = ImageListLT(tmp_path, "good.txt")
    dataset = data.dataset("train")
    assert sorted(dataset.file(i) for i in range(len(dataset))) == sorted(
        name for name in [*names, "d/x.png"] if "\n" not in name
    )


# -- interrupted ------------------------------------------------------------------------------------


class Stopping(Dataset):
    """Something happens at item 40."""

    labels = [0] * 100

    def __init__(self, event):
        self.event = event

    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index == 40:
            self.event()
        return torch.full((3, 16, 16), index if index != 7 else 3, dtype=torch.uint8), 0


def interrupt():
    raise KeyboardInterrupt


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_interrupted_check_reports_what_it_has_found(tmp_path):
    report = check_images({"train": Stopping(interrupt)})
    assert report.stopped == "interrupted"
    assert found(report) == {"duplicate": {"train[7]"}}
    assert report.read == 32
    assert not report.clean
    saved = json.loads(report.save("report.json").read_text())
    assert saved["complete"] is False
    assert saved["read"] == 32
    parts = checked_splits_of({"train": Stopping(interrupt)})
    with pytest.raises(LongTailError, match="no list is written from a part"):
        write_lists(parts, report, {"train": Path("a.txt")})


# The thread that feeds the dead process may miss it as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_that_dies_is_told(tmp_path):
    report = check_images({"train": Stopping(die)}, num_workers=2)
    assert re.match("A process that loads images has died", report.stopped)
    assert not report.clean


def test_progress_counts_up_to_all(tmp_path):
    seen = []
    check_images({"train": labeled([0] * 40)}, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 40), (32, 40), (40, 40)]


# -- the report -------------------------------------------------------------------------------------


def test_the_report_is_plain_and_complete(tmp_path):
    planted = plant(clean_tree(tmp_path))
    report = check_images(ImageFolderLT(tmp_path))
    saved = json.loads(report.save(tmp_path / "deep/report.json").read_text())
    assert {kind: {entry["where"] for entry in group["found"]} for kind, group in saved["faults"].items()} == planted
    assert all(group["count"] == len(group["found"]) for group in saved["faults"].values())
    assert saved["complete"] is True
    assert saved["clean"] is False
    assert dict(zip(saved["class_names"], saved["class_counts"])) == {
        "ant": 8, "bee": 5, "cat": 5, "dog élan": 3, "eel": 0, "fox": 1, "gnu": 0,
    }  # fmt: skip
    assert not list(tmp_path.rglob("*.part"))


def test_a_report_that_cannot_be_written(tmp_path):
    report = check_images({"train": labeled([0, 0])})
    (tmp_path / "file").touch()
    with pytest.raises(LongTailError, match="cannot be written"):
        report.save(tmp_path / "file/report.json")
