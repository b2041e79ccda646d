from __future__ import annotations

import pickle

import pytest
import torch
from PIL import Image

from longtail_lightning import ImageList, labels_of
from longtail_lightning._errors import LongTailError


def test_items_are_image_and_label(tmp_path):
    Image.new("RGB", (5, 4), (10, 20, 30)).save(tmp_path / "a.png")
    dataset = ImageList(["a.png"], [3], root=tmp_path)
    image, label = dataset[0]
    assert image.dtype == torch.uint8
    assert image[:, 0, 0].tolist() == [10, 20, 30]
    assert label == 3
    assert labels_of(dataset).tolist() == [3]


def test_any_name_comes_back_as_it_was_given():
    names = ["a.jpg", "", "ß/象 b.jpg", "broken\udcff.jpg"]
    dataset = pickle.loads(pickle.dumps(ImageList(names, [0, 1, 0, 1])))
    assert [dataset.file(i) for i in range(4)] == names
    assert ImageList(["x.jpg"], [0], root="/data").path(0).as_posix() == "/data/x.jpg"


def test_files_and_labels_must_match():
    with pytest.raises(LongTailError, match="2 files but 1 labels"):
        ImageList(["a", "b"], [0])
