"""Data of strangers: pipes among the images, images that claim to be huge, labels that make a billion classes."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from longtail_lightning import (
    CSVLT,
    ConcatLT,
    ImageFolderLT,
    ImageListLT,
    LongTailDataModule,
    ShardsLT,
    SyntheticLongTail,
    prepare_shards,
)
from longtail_lightning._errors import LongTailError
from tests.bombs import NO_FILES, make_pipe, png_bomb
from tests.curation.faults import picture


@pytest.fixture(autouse=True)
def soon():
    """Whoever waits for a pipe fails, instead of waiting for ever."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def photos(tmp_path):
    """Two classes of four images, as a folder, a list and a table."""
    rows = []
    for label, name in enumerate(("ant", "bee")):
        for number in range(4):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(4 * label + number).save(path)
            rows.append((f"{name}/{number}.png", label))
    write(tmp_path, rows)
    return tmp_path / "photos"


def write(folder: Path, rows) -> None:
    (folder / "list.txt").write_text("".join(f"{path} {label}\n" for path, label in rows))
    with open(folder / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


OPTIONS = {"transforms": "none", "batch_size": 4}


def readers(photos: Path, **options):
    """Each way to read the photos."""
    above = photos.parent
    yield ImageFolderLT(photos, test_split=0, val_split=0, **OPTIONS, **options)
    yield ImageListLT(photos, above / "list.txt", **OPTIONS, **options)
    yield CSVLT(above / "table.csv", root=photos, **OPTIONS, **options)


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_among_the_images(photos, make):
    (photos / "ant/0.png").unlink()
    kind = make(photos / "ant/0.png")
    folder, listed, table = readers(photos)
    if kind == "it is a folder":
        assert folder.class_counts.tolist() == [3, 4]
    else:
        with pytest.warns(UserWarning, match="that are not images are left out: 1 pipes or devices"):
            assert folder.class_counts.tolist() == [3, 4]
    assert sum(len(batch[1]) for batch in folder.train_dataloader()) == 7
    for data in (listed, table):
        with pytest.raises(LongTailError, match=rf"lists ant/0.png, which cannot be read below .*photos, {kind}"):
            data.setup("fit")
        with pytest.raises(LongTailError, match=rf"ant/0.png cannot be read \({kind}\)"):
            list(data.train_dataloader())


def test_lists_tables_and_names_that_are_pipes(photos):
    pipe = photos / "pipe.txt"
    kind = make_pipe(pipe)
    for data in (
        ImageListLT(photos, pipe),
        CSVLT(pipe, root=photos),
        ImageFolderLT(photos, class_names=pipe),
    ):
        with pytest.raises(LongTailError, match=kind):
            _ = data.class_names


def test_an_image_that_claims_to_be_huge(photos):
    (photos / "ant/0.png").write_bytes(png_bomb())
    for data in readers(photos):
        with pytest.raises(LongTailError, match=r"ant/0.png has .* pixels, more than max_pixels=178,956,970"):
            list(data.train_dataloader())
    with pytest.warns(UserWarning, match=r"ant/0.png"):
        list(next(readers(photos, on_error="skip")).train_dataloader())


def test_max_pixels_is_an_option_of_all_that_decode(photos, tmp_path):
    prepare_shards(ImageFolderLT(photos, test_split=0), tmp_path / "shards")
    for limit, fits in ((24 * 20, True), (24 * 20 - 1, False)):
        given = [*readers(photos, max_pixels=limit), ShardsLT(tmp_path / "shards", max_pixels=limit, **OPTIONS)]
        for data in [*given, ConcatLT([given[0]], **OPTIONS)]:
            if fits:
                assert sum(len(batch[1]) for batch in data.train_dataloader()) == 8
                continue
            with pytest.raises(LongTailError, match="has 24 x 20 pixels, more than max_pixels=479"):
                list(data.train_dataloader())


@pytest.mark.parametrize("label", [10**9, 10**18])
def test_labels_that_would_make_a_billion_classes(photos, label):
    write(photos.parent, [("ant/0.png", 0), ("bee/0.png", label)])
    _, *both = readers(photos)
    for data in both:
        with pytest.raises(LongTailError, match=r"run from 0 to 1000.*, which would make .* classes: relabel=true"):
            _ = data.class_counts
    with pytest.raises(LongTailError, match="which would make"):
        _ = Labeled(label).class_counts
    assert ImageListLT(photos, photos.parent / "list.txt", relabel=True).class_counts.tolist() == [1, 1]


class Labeled(LongTailDataModule):
    def __init__(self, label):
        super().__init__()
        self.label = label

    def build(self, split):
        return TensorDataset(torch.zeros(2, 3, 8, 8), torch.tensor([0, self.label])) if split == "train" else None


@pytest.mark.parametrize("option", ["num_classes", "max_count", "val_per_class", "test_per_class"])
def test_more_drawn_images_than_memory(option):
    with pytest.raises(LongTailError, match=r"is more than 10,000,000|would fill the memory"):
        SyntheticLongTail(**{option: 10**11}).dataset("train" if option == "max_count" else option.partition("_")[0])
