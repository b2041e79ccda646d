"""Files of strangers: each limit is told in one sentence, before the memory is full."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from longtail_lightning import (
    ResizedCropTransforms,
    SyntheticImages,
    long_tail_counts,
    long_tail_indices,
    read_class_names,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets import read_npz, read_text
from longtail_lightning.datasets.decode import (
    MAX_PIXELS,
    TooLargeImageError,
    UnreadableImageError,
    decode_image,
)
from longtail_lightning.datasets.image_list import ImageList
from longtail_lightning.datasets.image_size import jpeg_frame
from longtail_lightning.datasets.pictures import Preparation, find_pictures, read_pictures
from longtail_lightning.datasets.read_arrays import read_images, read_source
from longtail_lightning.datasets.read_coco import read_coco
from longtail_lightning.datasets.read_image_list import read_image_list
from longtail_lightning.datasets.read_table import label_values, read_table
from longtail_lightning.datasets.seeded_dataset import SeededDataset
from tests.bombs import BOMBS, NO_FILES, jpeg_bomb, make_pipe, png_bomb, small

# -- images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_claims_too_many_pixels_is_not_decoded(tmp_path, name):
    (tmp_path / f"bomb.{name}").write_bytes(BOMBS[name]())
    assert (tmp_path / f"bomb.{name}").stat().st_size < 100_000
    message = r"bomb.* has (20,000 x 20,000|400,000,000|268,402,689) pixels, more than max_pixels=178,956,970: make"
    with pytest.raises(TooLargeImageError, match=message):
        decode_image(tmp_path / f"bomb.{name}")
    with pytest.raises(TooLargeImageError, match=r"^The image has"):
        decode_image(BOMBS[name]())


@pytest.mark.parametrize("between", [b"\xff", b"\0\0", b"\xff\xd0", b"\xff\x01"])
def test_a_jpeg_with_garbage_before_its_frame_is_not_decoded_either(between):
    data = jpeg_bomb(between=between)
    assert jpeg_frame(data) is None, "a decoder may look for the frame elsewhere"
    with pytest.raises(UnreadableImageError):
        decode_image(data)


def test_a_jpeg_with_two_frames_is_not_taken_by_its_smaller_one():
    """Decoders skip 0xff in front of a marker; who takes it for the marker finds the small frame far behind."""
    data, frame = jpeg_bomb(between=b"\xff"), small("JPEG").index(b"\xff\xc0")
    behind = frame + 2 + 0xC000
    data = data.ljust(behind, b"\0") + small("JPEG")[frame:]
    assert jpeg_frame(data) is None
    with pytest.raises(UnreadableImageError):
        decode_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_the_limit_is_an_argument(kind):
    for source in (small(kind), Image.open(io.BytesIO(small(kind)))):
        assert decode_image(source, max_pixels=256).shape == (3, 16, 16)
        with pytest.raises(TooLargeImageError, match="has 16 x 16 pixels, more than max_pixels=255"):
            decode_image(source, max_pixels=255)


def test_a_higher_limit_than_that_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match="exceeds limit of 200 pixels"):
        decode_image(small("PNG"))
    assert decode_image(small("PNG"), max_pixels=2 * MAX_PIXELS).shape == (3, 16, 16)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_limit_is_that_of_pillow():
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


def test_a_file_of_many_bytes_is_not_read(tmp_path):
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(10**12)
    with pytest.raises(TooLargeImageError, match="has 1,000,000,000,000 bytes, more than an image of max_pixels"):
        decode_image(tmp_path / "sparse.jpg")


def test_a_program_is_no_image():
    # Pillow passes these to Ghostscript.
    with pytest.raises(UnreadableImageError, match="no known image format"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_is_named(tmp_path, make):
    kind = make(tmp_path / "x.jpg")
    images = ImageList(["x.jpg"], [0], root=tmp_path)
    with pytest.raises(UnreadableImageError, match=rf"x\.jpg cannot be read \({kind}\)"):
        images[0]
    Image.new("RGB", (8, 8)).save(tmp_path / "y.jpg")
    assert find_pictures(tmp_path) == [tmp_path / "y.jpg"]


def test_pictures_for_a_model_that_are_none(tmp_path):
    described = {"shape": [3, 16, 16], "resize": None, "crop": None, "crops": 1, "interpolation": "bilinear"}
    prepare = Preparation({**described, "mean": None, "std": None})
    make_pipe(tmp_path / "pipe.jpg")
    (tmp_path / "bomb.png").write_bytes(png_bomb())
    (tmp_path / "good.png").write_bytes(small("PNG"))
    paths = [tmp_path / name for name in ("pipe.jpg", "bomb.png", "good.png")]
    pipe, bomb, good = read_pictures(paths, prepare)
    assert "pipe.jpg cannot be read (it is a pipe, not a file)" in pipe.error
    assert "more than max_pixels=178,956,970" in bomb.error
    assert good.error is None


def test_a_line_of_pixels_is_not_made_large(tmp_path):
    line = Image.new("L", (60_000, 1))
    line.save(tmp_path / "line.png")
    images = SeededDataset(ImageList(["line.png"], [0], root=tmp_path), transform=ResizedCropTransforms().evaluate)
    message = r"line.png has 60,000 x 1 pixels, 256 x 15,360,000 when resized: crop it"
    with pytest.raises(UnreadableImageError, match=message):
        images[0]
    described = {"shape": [3, 224, 224], "resize": 256, "crop": 224, "crops": 1, "interpolation": "bilinear"}
    for shape, crop in (([3, 224, 224], 224), ([3, 256, 256], None)):
        prepare = Preparation({**described, "shape": shape, "crop": crop, "mean": None, "std": None})
        (read,) = read_pictures([tmp_path / "line.png"], prepare)
        assert re.search(message, read.error)


# -- text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", NO_FILES[:3])
def test_texts_that_are_no_files(tmp_path, make):
    for name, read in (
        ("names.txt", read_class_names),
        ("list.txt", read_image_list),
        ("table.csv", lambda path: read_table(path, 0, 1, None)),
        ("table.parquet", lambda path: read_table(path, 0, 1, None)),
        ("images.npz", read_source),
        ("coco.json", read_coco),
    ):
        kind = make(tmp_path / name)
        with pytest.raises(LongTailError, match=kind):
            read(tmp_path / name)


def test_a_compressed_text_has_an_end(tmp_path, monkeypatch):
    path = tmp_path / "names.txt.gz"
    path.write_bytes(gzip.compress(b"cat\n" * 1_000_000))
    assert path.stat().st_size < 10_000
    assert len(read_text.read_text(path)) == 4_000_000
    monkeypatch.setattr(read_text, "MAX_EXPANDED", 3_000_000)
    with pytest.raises(LongTailError, match=r"unpacks to more than 3,000,000 bytes: .* unpack it with `gunzip`"):
        read_class_names(path)


def test_a_compressed_text_that_is_damaged(tmp_path):
    data = bytearray(gzip.compress(np.random.default_rng(0).bytes(9999)))
    data[200:300] = bytes(100)
    for name, content in (("flipped.txt.gz", bytes(data)), ("cut.txt.gz", bytes(data[:90])), ("no.txt.gz", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LongTailError, match=f"{name} cannot be read"):
            read_text.read_text(tmp_path / name)


@pytest.mark.parametrize("reader", [read_class_names, read_coco])
def test_json_that_is_nested_without_end(tmp_path, reader):
    path = tmp_path / "names.json"
    path.write_text("[" * 200_000)
    with pytest.raises(LongTailError, match=r"names.json nests its lists too deeply"):
        reader(path)
    path.write_text("1" * 5000)
    with pytest.raises(LongTailError, match=r"names.json is not JSON that can be read"):
        reader(path)


def test_a_cell_that_is_a_book(tmp_path):
    for name, read in (("a.csv", lambda path: read_table(path, 0, 1, None)), ("b.csv", read_class_names)):
        (tmp_path / name).write_text('name,label\n"' + "x" * 200_000)
        with pytest.raises(LongTailError, match=r"a cell is longer than 131,072 characters\): is a quotation mark"):
            read(tmp_path / name)


def test_lines_that_are_books(tmp_path):
    (tmp_path / "a.txt").write_text("cat 0\n" + "a " * 100_000)
    for read in (read_class_names, read_image_list):
        with pytest.raises(LongTailError, match=r"a.txt, line 2 has 199,999 characters"):
            read(tmp_path / "a.txt")


@pytest.mark.parametrize("label", ["9" * 30, "9" * 5000])
def test_labels_of_many_digits(tmp_path, label):
    (tmp_path / "a.txt").write_text(f"1.jpg {label}\n")
    with pytest.raises(LongTailError, match=r"a.txt, line 1: 9{24} is no number of a class"):
        read_image_list(tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text(f"1.jpg,{label}\n")
    table = read_table(tmp_path / "a.csv", 0, 1, None)
    with pytest.raises(LongTailError, match=r"a.csv: 9{24} is no number of a class"):
        label_values(table, [0], tmp_path / "a.csv")


# -- arrays -----------------------------------------------------------------------------------------


def npy_that_claims(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + b"few bytes"


def test_arrays_that_claim_more_rows_than_they_hold(tmp_path):
    (tmp_path / "images.npy").write_bytes(npy_that_claims((10**15, 8, 8)))
    np.save(tmp_path / "labels.npy", np.zeros(3, dtype=np.int64))
    with pytest.raises(LongTailError, match=r"images.npy cannot be read \(broken or incomplete\)"):
        read_source((tmp_path / "images.npy", tmp_path / "labels.npy"))
    for shape in ((10**15, 8, 8), (10**9, 64), (-1, -8, 8)):
        with zipfile.ZipFile(tmp_path / "all.npz", "w") as file:
            file.writestr("images.npy", npy_that_claims(shape))
            file.writestr("labels.npy", (tmp_path / "labels.npy").read_bytes())
        with pytest.raises(LongTailError, match=r"'images' cannot be read \(broken or incomplete\)"):
            read_images(read_source(tmp_path / "all.npz"), "train", where="all.npz")


def test_an_archive_that_unpacks_to_terabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(read_npz, "MAX_UNPACKED", 1_000_000)
    zeros = np.zeros((2000, 32, 32), dtype=np.uint8)
    np.savez_compressed(tmp_path / "bomb.npz", images=zeros, labels=np.zeros(2000))
    np.savez(tmp_path / "large.npz", images=zeros, labels=np.zeros(2000))
    with pytest.raises(LongTailError, match=r"images.npy unpacks from 2,\d+ to 2,048,128 bytes, .* with numpy.savez"):
        read_source(tmp_path / "bomb.npz")
    assert len(read_images(read_source(tmp_path / "large.npz"), "train", where="here")) == 2000


def test_a_tensor_that_repeats_one_value(tmp_path):
    images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(10**9, 3, 10**4, 10**4)
    torch.save({"images": images, "labels": torch.zeros(3, dtype=torch.int64)}, tmp_path / "a.pt")
    with pytest.raises(LongTailError, match=r"images of shape \(1000000000, 3, 10000, 10000\) do not fit"):
        read_images(read_source(tmp_path / "a.pt"), "train", where="a.pt")


def test_a_table_that_claims_more_rows_than_bytes(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    same = arrow.repeat("cat", 3_000_000)
    parquet.write_table(arrow.table({"path": same, "label": same}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    with pytest.raises(LongTailError, match=r"a.parquet claims 3,000,000 rows of .* and has .* bytes itself"):
        read_table(tmp_path / "a.parquet", "path", "label", None)


# -- numbers ----------------------------------------------------------------------------------------


def test_numbers_of_classes_and_images():
    with pytest.raises(LongTailError, match=r"num_classes=100,000,000,000 is more than 10,000,000"):
        long_tail_counts(10**11, 500, 100)
    with pytest.raises(LongTailError, match=r"which would make 1,000,000,000,000,000,001 classes of 2 images"):
        long_tail_indices([0, 10**18])
    with pytest.raises(LongTailError, match=r"100,000,000,000 drawn images would fill the memory"):
        SyntheticImages([10**11])
    for number in (float("nan"), float("inf")):
        with pytest.raises(LongTailError, match="must be at least 1"):
            long_tail_counts(10, 500, number)
        with pytest.raises(LongTailError, match="Need at least 2 classes and 1 image"):
            long_tail_counts(10, number, 100)


def test_class_names_numbered_with_many_digits(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"9" * 5000: "cat"}))
    with pytest.raises(LongTailError, match="is not a class index"):
        read_class_names(tmp_path / "a.json")
