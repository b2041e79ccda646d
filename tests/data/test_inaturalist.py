from __future__ import annotations

import json
from pathlib import Path

import pytest

from longtail_lightning import INaturalist
from longtail_lightning._errors import LongTailError
from tests.data import trees


def data(version=2018, **options):
    root = trees.inaturalist(Path("inat"), version)
    return INaturalist(root, version, **{"transforms": "none", "batch_size": 4, **options})


@pytest.mark.parametrize("version", [2017, 2018, 2019, 2021])
def test_categories_are_numbered_in_the_order_of_their_ids(version):
    dm = data(version)
    assert dm.class_counts.tolist() == [6, 3, 2]
    assert dm.class_names == ["the cat", "the dog", "the owl"]
    train = dm.dataset("train")
    assert [train.file(i).split("/")[1] for i in range(11)] == ["cat"] * 6 + ["dog"] * 3 + ["owl"] * 2
    assert dm.labels("train").tolist() == [0] * 6 + [1] * 3 + [2] * 2


def test_the_official_validation_images_are_the_test_split():
    dm = data(val_split=0.3)
    assert dm.labels("test").tolist() == [0, 1, 2]
    assert dm.item_name(0) == "val/cat/0.jpg"
    held = {dm.dataset("val").dataset.file(i) for i in dm.dataset("val").indices}
    assert held
    assert all(file.startswith("train/") for file in held)
    assert data().val_dataloader() == []


def test_choosing_and_reporting_on_the_same_images_is_refused():
    with pytest.raises(LongTailError, match="val and test are both val: choosing an epoch on the images you report"):
        data(val="val")
    dm = data(val="val", test=None)
    assert dm.labels("val").tolist() == [0, 1, 2]
    assert dm.dataset("test") is None


def test_another_file_of_the_year():
    trees.inaturalist(Path("inat"), 2021)
    Path("inat/train.json").rename("inat/train_mini.json")
    assert INaturalist("inat", 2021, train="train_mini").class_counts.tolist() == [6, 3, 2]
    assert INaturalist("inat", 2021, train="inat/train_mini.json").class_counts.tolist() == [6, 3, 2]


def test_a_level_of_the_taxonomy():
    dm = data(level="supercategory")
    assert dm.class_names == ["Birds", "Mammals"]
    assert dm.class_counts.tolist() == [2, 9]
    assert dm.labels("test").tolist() == [1, 1, 0]
    with pytest.raises(LongTailError, match=r"no 'supercategry'\. Did you mean supercategory"):
        _ = data(level="supercategry").class_counts


def test_names_that_were_published_later():
    trees.inaturalist(Path("inat"))
    named = [{"id": n, "name": f"Felis {n}", "genus": "Felis" if n < 10 else "Bubo"} for n in range(20)]
    Path("inat/categories.json").write_text(json.dumps(named))
    assert INaturalist("inat").class_names == ["Felis 3", "Felis 5", "Felis 11"]
    assert INaturalist("inat", level="genus").class_counts.tolist() == [2, 9]


def test_text_lists():
    trees.lists(Path("inat"))
    Path("inat/My_LT_train.txt").rename("inat/iNaturalist18_train.txt")
    Path("inat/My_LT_val.txt").rename("inat/iNaturalist18_val.txt")
    dm = INaturalist("inat")
    assert dm.class_counts.tolist() == [6, 3, 2]
    assert dm.labels("test").tolist() == [0, 1, 2]
    with pytest.raises(LongTailError, match=r"level='name' needs categories, which iNaturalist18_train\.txt lacks"):
        _ = INaturalist("inat", level="name").class_counts
    Path("inat/categories.json").write_text(json.dumps([{"id": i, "name": f"Felis {i}"} for i in range(3)]))
    assert INaturalist("inat").class_names == ["Felis 0", "Felis 1", "Felis 2"]


def test_a_category_without_training_images_stays_a_class():
    trees.inaturalist(Path("inat"))
    content = json.loads(Path("inat/train2018.json").read_text())
    content["categories"].append({"id": 4, "name": "the elk"})
    Path("inat/train2018.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"1 of 4 classes have no image in train2018\.json \(the elk\)"):
        assert INaturalist("inat").class_counts.tolist() == [6, 0, 3, 2]


def change(file, **content):
    path = Path("inat") / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))


def test_bad_json():
    trees.inaturalist(Path("inat"))
    change("train2018.json", annotations=[])
    with pytest.raises(LongTailError, match=r"train2018\.json has no annotations.* test images are not public"):
        _ = INaturalist("inat").class_counts
    change("train2018.json", annotations=[{"image_id": 100}])
    with pytest.raises(LongTailError, match="an entry has no 'category_id'"):
        _ = INaturalist("inat").class_counts
    change("train2018.json", annotations=[{"image_id": 100, "category_id": 9}])
    with pytest.raises(LongTailError, match=r"annotates categories that it does not list \(9\)"):
        _ = INaturalist("inat").class_counts
    Path("inat/train2018.json").write_text('{"images": [')
    with pytest.raises(LongTailError, match=r"is not JSON .* was the download interrupted"):
        _ = INaturalist("inat").class_counts


def test_images_without_a_label_are_left_out():
    trees.inaturalist(Path("inat"))
    content = json.loads(Path("inat/train2018.json").read_text())
    change("train2018.json", annotations=content["annotations"][1:])
    with pytest.warns(UserWarning, match=r"1 of 11 images of train2018\.json have no label, left out"):
        assert INaturalist("inat").class_counts.total == 10


def test_a_folder_without_the_files_shows_what_is_expected():
    Path("empty").mkdir()
    with pytest.raises(LongTailError, match=r"empty holds none of train2018\.json, .*\nroot/\n  train2018\.json"):
        _ = INaturalist("empty").class_counts
    with pytest.raises(LongTailError, match="nowhere does not exist"):
        _ = INaturalist("nowhere").class_counts
    with pytest.raises(LongTailError, match="version=2016: choose one of 2017"):
        INaturalist("empty", 2016)


def test_images_that_were_not_unpacked():
    dm = data()
    for path in Path("inat/val").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(LongTailError, match=r"3 of 3 files of val2018\.json do not exist below inat"):
        dm.setup("fit")
