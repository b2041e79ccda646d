from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sys
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from longtail_lightning import (
    ImageFolderLT,
    ImageShards,
    LongTailDataModule,
    ShardsLT,
    SyntheticLongTail,
    check_images,
    prepare_shards,
    verify_shards,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning._files import locked
from longtail_lightning.datasets.shard_manifest import manifest_checksum
from tests.bombs import make_pipe, png_bomb
from tests.curation.faults import picture

arrow = pytest.importorskip("pyarrow")
COUNTS = {"ant": 12, "bee élan": 6, "cat": 2}


@pytest.fixture
def photos(tmp_path):
    """Noise that does not compress: 3 MB of training images."""
    random = np.random.default_rng(0)
    for split, counts in (("train", COUNTS), ("test", dict.fromkeys(COUNTS, 1))):
        for name, count in counts.items():
            for number in range(count):
                path = tmp_path / "photos" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (200, 260, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def shards(photos, tmp_path):
    prepare_shards(ImageFolderLT(photos), tmp_path / "shards", shard_size=1)
    return tmp_path / "shards"


OPTIONS = {"transforms": "none", "batch_size": 4}


def test_the_same_images_in_the_same_order(photos, shards):
    folder, dataset = ImageFolderLT(photos).dataset("test"), ImageShards(shards, "test")
    assert len(dataset) == 3
    train = ImageShards(shards)
    original = ImageFolderLT(photos, val_split=0).dataset("train")
    assert len(train) == len(original) == 20
    for index in range(20):
        assert train.source(index) == original.path(index).read_bytes()
        assert train.file(index) == original.file(index)
        assert train[index][1] == original[index][1]
        assert torch.equal(train[index][0], original[index][0])
    assert torch.equal(dataset[0][0], folder[0][0])
    assert len(list(shards.glob("train-0*.arrow"))) == 3, "so that images behind the first file are read as well"


def test_any_arrow_reader_understands_the_files(photos, shards):
    from pyarrow import feather

    tables = [feather.read_table(file) for file in sorted(shards.glob("train-0*.arrow"))]
    table = arrow.concat_tables(tables)
    assert table.column_names == ["image", "label", "path"]
    assert table["label"].to_pylist() == [0] * 12 + [1] * 6 + [2] * 2
    assert Image.open(io.BytesIO(table["image"][19].as_py())).size == (260, 200)
    assert table["path"][12].as_py() == "train/bee élan/0.png"


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_what_it_saw_before(photos, shards, workers):
    options = {**OPTIONS, "val_split": 0.2, "profile": [6, 3, 2], "num_workers": workers, "transforms": "imagenet"}
    before, after = ImageFolderLT(photos, **options), ShardsLT(shards, **options)
    assert after.class_names == before.class_names == list(COUNTS)
    assert after.class_counts == before.class_counts
    assert after.subset_id.checksum == before.subset_id.checksum
    for split in ("train", "val", "test"):
        ours, theirs = (getattr(data, f"{split}_dataloader")() for data in (after, before))
        for batch, other in zip(ours, theirs, strict=True):
            assert torch.equal(batch[0], other[0])
            assert torch.equal(batch[1], other[1])
    assert after.item_name(0) == before.item_name(0) == "test/ant/0.png"


def test_a_data_set_that_travels_to_another_process(shards):
    dataset = ImageShards(shards)
    image, _ = dataset[19]
    dataset.file(0)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[19][0], image)
    assert copy.file(19) == dataset.file(19)
    assert len(pickle.dumps(dataset)) < 10_000, "the images stay behind"


def names_on_this_rank(root):
    data = ShardsLT(root, **OPTIONS)
    seen = {}
    for split in ("train", "test"):
        sampler = getattr(data, f"{split}_dataloader")().sampler
        seen[split] = [data.dataset(split).file(index) for index in sampler]
    images = sum(len(batch[0]) for batch in data.train_dataloader())
    return seen, images


def test_two_ranks_read_each_image_once(shards, pool):
    (first, images), (second, _) = pool.run(names_on_this_rank, str(shards))
    assert images == 10
    for split, number in (("train", 20), ("test", 3)):
        files = [*first[split], *second[split]]
        assert len(files) == len(set(files)) == number


# -- writing ----------------------------------------------------------------------------------------


class Interrupted(LongTailDataModule):
    """A folder whose images stop coming at one of them."""

    def __init__(self, photos, event, at=18):
        super().__init__()
        self.folder, self.event, self.at = ImageFolderLT(photos, val_split=0), event, at

    def build(self, split):
        dataset = self.folder.build(split)
        if split == "train":
            path, asked = dataset.path, []

            def stopping(index):
                asked.append(index)
                if asked.count(self.at) == 2:  # the first time, only its size is wanted
                    self.event()
                return path(index)

            dataset.path = stopping
        return dataset

    def build_class_names(self):
        return self.folder.class_names


def interrupt():
    raise KeyboardInterrupt


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("event", [interrupt, kill])
def test_what_was_begun_is_never_read_and_can_be_continued(photos, shards, event, tmp_path):
    target = tmp_path / "stopped"
    if event is kill:
        context = multiprocessing.get_context("fork")
        process = context.Process(
            target=prepare_shards, args=(Interrupted(photos, kill), target), kwargs={"shard_size": 1}
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert list(target.glob("*.part")), "the test kills in the middle of a file"
    else:
        with pytest.raises(KeyboardInterrupt):
            prepare_shards(Interrupted(photos, interrupt), target, shard_size=1)
        assert not list(target.glob("*.part"))
    begun = {path.name: path.stat().st_mtime_ns for path in target.glob("*.arrow")}
    assert len(begun) == 2
    with pytest.raises(LongTailError, match="not finished, run the same `ltl data prepare` again"):
        _ = ShardsLT(target).class_counts

    steps = []
    prepare_shards(ImageFolderLT(photos), target, shard_size=1, progress=lambda *step: steps.append(step))
    assert contents(target) == contents(shards)
    assert {name: (target / name).stat().st_mtime_ns for name in begun} == begun, "not written again"
    assert steps[0][0] == 14
    assert steps[-1] == (23, 23)


def test_two_do_not_write_at_once(photos, shards):
    with locked(shards):
        assert prepare_shards(ImageFolderLT(photos), shards, shard_size=1)["train"] == 20, "all is done"
        (shards / "shards.json").unlink()
        with pytest.raises(LongTailError, match="Another process is writing to"):
            prepare_shards(ImageFolderLT(photos), shards, shard_size=1)


def test_a_second_call_has_nothing_to_do(photos, shards):
    before = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert prepare_shards(ImageFolderLT(photos), shards, shard_size=1) == {"train": 20, "test": 3}
    assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == before


def test_other_images_or_settings_go_elsewhere(photos, shards, tmp_path):
    with pytest.raises(LongTailError, match="shards of other images or settings: give another folder"):
        prepare_shards(ImageFolderLT(photos), shards, resize=64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(LongTailError, match=r"is not empty \(thesis.txt\)"):
        prepare_shards(ImageFolderLT(photos), tmp_path / "mine")
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(Interrupted(photos, interrupt), tmp_path / "begun", shard_size=1)
    with pytest.raises(LongTailError, match="the beginning of shards of other images"):
        prepare_shards(ImageFolderLT(photos), tmp_path / "begun", shard_size=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_smaller_images(photos, tmp_path, workers):
    picture(0, 50, 90).save(photos / "train/cat/small.jpg")
    picture(1, 300, 400).convert("CMYK").save(photos / "train/cat/print.jpg")
    prepare_shards(ImageFolderLT(photos), tmp_path / "small", resize=100, num_workers=workers)
    dataset = ImageShards(tmp_path / "small")
    files = {dataset.file(index): index for index in range(len(dataset))}
    assert dataset[0][0].shape == (3, 100, 130)
    assert dataset.source(0)[:2] == b"\xff\xd8", "a JPEG"
    small = files["train/cat/small.jpg"]
    assert dataset.source(small) == (photos / "train/cat/small.jpg").read_bytes(), "not encoded again"
    large, _ = dataset[files["train/cat/print.jpg"]]
    assert large.shape == (3, 133, 100)
    # Colors stay what they were.
    expected = picture(1, 300, 400).convert("CMYK").convert("RGB").resize((100, 133), Image.Resampling.BILINEAR)
    difference = large.int() - torch.from_numpy(np.array(expected)).permute(2, 0, 1).int()
    assert difference.abs().float().mean() < 3


def test_images_that_are_no_files_are_kept_without_loss(tmp_path):
    data = SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2, val_per_class=1, test_per_class=1)
    assert prepare_shards(data, tmp_path / "drawn") == {"train": 8, "val": 3, "test": 3}
    dataset = ImageShards(tmp_path / "drawn", "val")
    assert all(torch.equal(dataset[index][0], data.dataset("val")[index][0]) for index in range(3))


@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_cannot_be_copied_are_named(photos, tmp_path, workers):
    data = ImageFolderLT(photos, val_split=0)
    data.dataset("train")
    (photos / "train/cat/1.png").unlink()
    with pytest.raises(LongTailError, match=r"1\.png cannot be read \(No such file.*\): `ltl data check --fix list`"):
        prepare_shards(data, tmp_path / "a", num_workers=workers)
    (photos / "train/cat/1.png").touch()
    with pytest.raises(LongTailError, match=r"train/cat/1\.png is empty \(0 bytes\)"):
        prepare_shards(ImageFolderLT(photos), tmp_path / "b", num_workers=workers)
    (photos / "train/cat/1.png").write_text("no picture")
    with pytest.raises(LongTailError, match=r"train/cat/1\.png cannot be decoded"):
        prepare_shards(ImageFolderLT(photos), tmp_path / "c", resize=10, num_workers=workers)


def test_huge_images_and_pipes_are_named(photos, tmp_path):
    data = ImageFolderLT(photos, val_split=0)
    data.dataset("train")
    (photos / "train/cat/1.png").write_bytes(png_bomb())
    with pytest.raises(LongTailError, match=r"cat/1\.png has .* more than max_pixels=178,956,970"):
        prepare_shards(data, tmp_path / "a", resize=10)
    (photos / "train/cat/1.png").unlink()
    kind = make_pipe(photos / "train/cat/1.png")
    with pytest.raises(LongTailError, match=rf"1\.png cannot be read \({kind}\): `ltl data check --fix list`"):
        prepare_shards(data, tmp_path / "b")


def test_a_disk_that_is_too_small(photos, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1_000_000))
    with pytest.raises(LongTailError, match=r"take about 0\.0 GB, .* has 0\.0 GB left: .*--resize"):
        prepare_shards(ImageFolderLT(photos), tmp_path / "a")


@pytest.fixture
def forked():
    """Run a function in a process of its own; gives how that ended."""

    def run(function):
        process = multiprocessing.get_context("fork").Process(target=function)
        process.start()
        process.join(60)
        return process.exitcode

    return run


def test_a_disk_that_fills_up(photos, tmp_path, forked):
    data, target = ImageFolderLT(photos), tmp_path / "a"

    def prepare_with_little_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        with pytest.raises(LongTailError, match=r"\(File too large\): make room and run the same command again; it"):
            prepare_shards(data, target)

    assert forked(prepare_with_little_room) == 0
    assert sorted(os.listdir(target)) == ["unfinished.json"]
    assert prepare_shards(data, target) == {"train": 20, "test": 3}


@pytest.mark.parametrize("damage", ["flip", "cut", "lose", "swap"])
def test_damage_to_what_a_killed_call_wrote_is_repaired(photos, shards, damage, tmp_path):
    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(Interrupted(photos, interrupt), target, shard_size=1)
    first, second = target / "train-00000.arrow", target / "train-00001.arrow"
    kept = second.stat().st_mtime_ns
    data = bytearray(first.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
        first.write_bytes(data)
    elif damage == "cut":
        first.write_bytes(data[:-1])
    elif damage == "lose":
        first.unlink()
    else:
        shutil.copyfile(second, first)
    prepare_shards(ImageFolderLT(photos), target, shard_size=1)
    assert contents(target) == contents(shards)
    assert second.stat().st_mtime_ns == kept, "what is whole is not written again"


@pytest.mark.parametrize("side", [700, 20])
def test_shards_that_begin_elsewhere_now_are_not_kept(photos, tmp_path, side):
    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(Interrupted(photos, interrupt), target, shard_size=1)
    (target / "train-00000.arrow").unlink()
    if side == 700:
        larger = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(larger).save(photos / "train/ant/0.png")
    else:
        for path in (photos / "train").rglob("*.png"):
            picture(0, side, side).save(path)
    prepare_shards(ImageFolderLT(photos), target, shard_size=1)
    train, original = ImageShards(target), ImageFolderLT(photos, val_split=0).dataset("train")
    assert [train.source(index) for index in range(20)] == [original.path(index).read_bytes() for index in range(20)]
    assert len(list(target.glob("train-0*"))) == (4 if side == 700 else 1)
    assert verify_shards(target) == {}


def test_the_beginning_by_an_earlier_release_is_continued(photos, shards, tmp_path):
    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(Interrupted(photos, interrupt), target, shard_size=1)
    note = json.loads((target / "unfinished.json").read_text())
    del note["written"]
    (target / "unfinished.json").write_text(json.dumps(note))
    (target / "train-00002.arrow.part").write_bytes(b"half")
    prepare_shards(ImageFolderLT(photos), target, shard_size=1)
    assert contents(target) == contents(shards)


def test_only_own_litter_is_removed(photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/.thesis.txt.part").write_text("chapter 1")
    with pytest.raises(LongTailError, match=r"is not empty \(.thesis.txt.part\)"):
        prepare_shards(ImageFolderLT(photos), tmp_path / "mine")
    assert (tmp_path / "mine/.thesis.txt.part").read_text() == "chapter 1"


@pytest.mark.parametrize("options", [{"shard_size": 0}, {"resize": 0}, {"quality": 101}])
def test_numbers_that_cannot_be(photos, options):
    with pytest.raises(LongTailError, match="at least 1, the quality lies between"):
        prepare_shards(ImageFolderLT(photos), "a", **options)


def test_without_pyarrow(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LongTailError, match=r"pip install 'longtail-lightning\[parquet\]'"):
        prepare_shards(ImageFolderLT(photos), "a")


# -- reading ----------------------------------------------------------------------------------------


def test_damaged_folders_are_told(shards, tmp_path):
    with pytest.raises(LongTailError, match=r"not a folder of shards .* make it with `ltl data prepare`"):
        ImageShards(tmp_path / "nowhere")
    with pytest.raises(LongTailError, match="holds no val split, only train and test"):
        ImageShards(shards, "val")
    dataset = ImageShards(shards)
    file = shards / "train-00001.arrow"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(LongTailError, match=r"train-00001.arrow is damaged .*copy it again"):
        dataset[10]
    file.unlink()
    with pytest.raises(LongTailError, match=r"train-00001.arrow is missing"):
        dataset[10]
    manifest = json.loads((shards / "shards.json").read_text())
    (shards / "shards.json").write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(LongTailError, match="has version 99, this release reads version 1"):
        ImageShards(shards)


def test_files_that_are_not_what_was_written(shards):
    assert verify_shards(shards) == {}
    ImageShards(shards, verify=True)
    file = shards / "train-00001.arrow"
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    file.write_bytes(flipped)
    assert verify_shards(shards) == {"train-00001.arrow": "is not what was written"}
    for opened in (lambda: ImageShards(shards, verify=True), lambda: ShardsLT(shards, verify=True).class_counts):
        with pytest.raises(LongTailError, match=r"is damaged: train-00001.arrow is not what was written") as caught:
            opened()
        assert caught.value.files == ("train-00001.arrow",)
    file.write_bytes(good + b"1")
    assert verify_shards(shards) == {"train-00001.arrow": f"has {len(good) + 1} bytes instead of {len(good)}"}
    with pytest.raises(LongTailError, match=rf"{len(good) + 1} bytes instead of {len(good)}\): copy it again"):
        ImageShards(shards, "test")
    file.unlink()
    os.mkfifo(file)
    assert verify_shards(shards) == {"train-00001.arrow": "cannot be read, it is a pipe, not a file"}


def changed(shards, **changes):
    """Change a manifest as somebody would who knows how it is written."""
    manifest = {**json.loads((shards / "shards.json").read_text()), **changes}
    manifest = {key: value for key, value in manifest.items() if value is not None}
    (shards / "shards.json").write_text(json.dumps({**manifest, "sha256": manifest_checksum(manifest)}))


@pytest.mark.parametrize("elsewhere", ["../secret.arrow", "/etc/passwd", "a/b.arrow", "..", ""])
def test_a_manifest_may_not_name_files_elsewhere(shards, elsewhere):
    splits = json.loads((shards / "shards.json").read_text())["splits"]
    for name in ("index", "shard"):
        split = dict(splits["train"])
        if name == "index":
            split["index"] = elsewhere
        else:
            split["shards"] = [{"file": elsewhere, "images": 20}]
        changed(shards, splits={"train": split}, files=None)
        with pytest.raises(LongTailError, match=r"shards.json is damaged \(it names a file elsewhere"):
            ImageShards(shards)


def test_a_manifest_that_was_changed(shards):
    text = (shards / "shards.json").read_text()
    (shards / "shards.json").write_text(text.replace('"ant"', '"bat"'))
    with pytest.raises(LongTailError, match=r"shards.json is damaged \(it is not what was written\)"):
        _ = ShardsLT(shards).class_names
    no_files = '{"version": 1, "class_names": ["a"], "splits": {"train": 3}}'
    for wrong in ("[" * 100_000, "[]", '{"version": 1}', no_files):
        (shards / "shards.json").write_text(wrong)
        with pytest.raises(LongTailError, match=r"shards.json is damaged \("):
            ImageShards(shards)


def test_row_counts_and_labels_that_are_wrong(shards):
    splits = json.loads((shards / "shards.json").read_text())["splits"]
    more = [dict(shard, images=shard["images"] + 1) for shard in splits["train"]["shards"]]
    changed(shards, splits={"train": {**splits["train"], "shards": more}}, files=None)
    with pytest.raises(LongTailError, match=r"train-index.arrow is damaged \(23 images but 20 labels\)"):
        ImageShards(shards)
    moved = [dict(shard) for shard in splits["train"]["shards"]]
    moved[0]["images"] -= 1
    moved[1]["images"] += 1
    changed(shards, splits={"train": {**splits["train"], "shards": moved}}, files=None)
    with pytest.raises(LongTailError, match=r"train-00000.arrow is damaged \(it holds 7 images instead of 6\)"):
        ImageShards(shards)[0]
    changed(shards, splits=splits, class_names=["ant", "bee"], files=None)
    with pytest.raises(LongTailError, match=r"train-index.arrow is damaged \(labels\[18\] is 2, outside 0..1\)"):
        ImageShards(shards)


def test_shards_of_an_earlier_release_have_no_checksums(photos, shards):
    manifest = json.loads((shards / "shards.json").read_text())
    old = {key: value for key, value in manifest.items() if key not in ("files", "sha256")}
    (shards / "shards.json").write_text(json.dumps(old))
    assert ShardsLT(shards, **OPTIONS).class_counts.tolist() == [12, 6, 2]
    with pytest.raises(LongTailError, match="has no checksums, as an earlier release wrote it"):
        verify_shards(shards)
    assert prepare_shards(ImageFolderLT(photos), shards, shard_size=1)["train"] == 20, "they are what is wanted"


def test_an_index_that_lies_about_its_bytes_is_not_read(shards):
    """Arrow trusts offsets: what they point to would be read from anywhere in the memory."""
    file = shards / "train-index.arrow"
    data = bytearray(file.read_bytes())
    lengths = [len(ImageShards(shards).file(index).encode()) for index in range(6)]  # of the first batch
    offsets = np.cumsum([0, *lengths], dtype=np.int32).tobytes()
    place = data.index(offsets)
    data[place + 12 : place + 16] = np.int32(2**31 - 1).tobytes()
    file.write_bytes(data)
    changed(shards, files=None)
    with pytest.raises(LongTailError, match=r"train-index.arrow is damaged \("):
        ImageShards(shards).file(19)


class Broken(LongTailDataModule):
    def build(self, split):
        return _Bytes() if split == "train" else None


class _Bytes(Dataset):
    labels = (0, 0, 1)

    def __len__(self):
        return 3

    def source(self, index):
        file = io.BytesIO()
        picture(index).save(file, "PNG")
        return file.getvalue()[: 60 if index == 1 else None]

    def file(self, index):
        return f"picture {index}"


def test_broken_images_keep_their_name(tmp_path):
    prepare_shards(Broken(), tmp_path / "shards")
    with pytest.raises(LongTailError, match="picture 1 cannot be decoded"):
        ImageShards(tmp_path / "shards")[1]
    report = check_images(ShardsLT(tmp_path / "shards"))
    assert [(fault.kind, fault.where) for fault in report.faults] == [("truncated", "picture 1"), ("single", "class 1")]
    with pytest.warns(UserWarning, match="picture 1"):
        list(ShardsLT(tmp_path / "shards", on_error="skip", transforms="none").train_dataloader())


def test_a_shard_that_lies_about_its_bytes_is_not_read(shards):
    images = [len(ImageShards(shards).source(index)) for index in range(6)]
    file = shards / "train-00000.arrow"
    data = bytearray(file.read_bytes())
    place = data.index(np.cumsum([0, *images], dtype=np.int32).tobytes())
    data[place + 12 : place + 16] = np.int32(2**31 - 1).tobytes()
    file.write_bytes(data)
    with pytest.raises(LongTailError, match=r"train-00000.arrow is damaged \("):
        ImageShards(shards)[2]


def test_no_flipped_bit_is_silent(tmp_path):
    data = SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2, val_per_class=1, test_per_class=1)
    prepare_shards(data, tmp_path)
    random = np.random.default_rng(0)
    files = sorted(tmp_path.iterdir())
    for number in range(100):
        file = files[number % len(files)]
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[random.integers(len(whole))] ^= 1 << random.integers(8)
        file.write_bytes(flipped)
        try:
            wrong = verify_shards(tmp_path)
        except LongTailError:
            wrong = {"shards.json": "refused"}
        assert list(wrong) == [file.name]
        file.write_bytes(whole)
    assert verify_shards(tmp_path) == {}
