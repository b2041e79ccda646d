from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from longtail_lightning import read_class_names
from longtail_lightning._errors import LongTailError

NAMES = ["abbey", "apartment_building/outdoor", "bar"]

LAYOUTS = {
    "plain.txt": "abbey\napartment_building/outdoor\nbar\n",
    "with a byte order mark.txt": "\ufeffabbey\napartment_building/outdoor\nbar\n",
    "places.txt": "/a/abbey 0\n/a/apartment_building/outdoor 1\n/b/bar 2\n",
    "shuffled.txt": "bar 2\nabbey 0\napartment_building/outdoor 1\n",
    "number first.txt": "0 abbey\n1: apartment_building/outdoor\n2, bar\n",
    "from one.txt": "1 abbey\n2 apartment_building/outdoor\n3 bar\n",
    "imagenet.txt": "n01440764 abbey\nn01443537 apartment_building/outdoor\nn01484850 bar\n",
    "twice.txt": "abbey abbey\napartment_building/outdoor apartment_building/outdoor\nbar bar\n",
    "list.json": json.dumps(NAMES),
    "index to name.json": json.dumps({"2": "bar", "0": "abbey", "1": NAMES[1]}),
    "name to index.json": json.dumps({"bar": 2, "abbey": 0, NAMES[1]: 1}),
    "imagenet.json": json.dumps({str(i): [f"n{i}", name] for i, name in enumerate(NAMES)}),
    "coco.json": json.dumps({"categories": [{"id": 9 - i, "name": name} for i, name in enumerate(reversed(NAMES))]}),
    "categories.json": json.dumps([{"id": i, "name": name} for i, name in enumerate(NAMES)]),
    "names.csv": "name\nabbey\napartment_building/outdoor\nbar\n",
    "both.csv": "index,name\n2,bar\n0,abbey\n1,apartment_building/outdoor\n",
    "label.csv": "label,class_name\n2,bar\n0,abbey\n1,apartment_building/outdoor\n",
    "headerless.csv": "2,bar\n0,abbey\n1,apartment_building/outdoor\n",
    "names.tsv": "id\tname\n5\tapartment_building/outdoor\n7\tbar\n1\tabbey\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_in_circulation(name):
    Path(name).write_text(LAYOUTS[name], encoding="utf-8")
    assert read_class_names(name) == NAMES


def test_compressed():
    with gzip.open("names.txt.gz", "wt") as file:
        file.write("cat\ndog\n")
    assert read_class_names("names.txt.gz") == ["cat", "dog"]


def test_names_that_end_in_numbers_are_names():
    Path("a.txt").write_text("class 1\nclass 2\n")
    assert read_class_names("a.txt") == ["class 1", "class 2"]
    Path("a.txt").write_text("boeing 707\nairbus 320\n")
    assert read_class_names("a.txt") == ["boeing 707", "airbus 320"]


def test_spaces_and_other_scripts():
    Path("a.txt").write_text("great white shark\nこま犬\n", encoding="utf-8")
    assert read_class_names("a.txt") == ["great white shark", "こま犬"]


def test_a_folder_stands_for_its_folders():
    for name in ("dog", "cat", ".git"):
        Path("photos", name).mkdir(parents=True)
    Path("photos/readme.txt").touch()
    assert read_class_names("photos") == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "holds no class names"),
        ("a.json", "{}", "holds no class names"),
        ("a.json", "[", "is not JSON"),
        ("a.json", "3", "holds a int, expected a list"),
        ("a.json", '{"0": "cat", "2": "dog"}', "from 0 to 2: expected every number"),
        ("a.json", '{"a": "cat"}', "'a' is not a class index"),
        ("a.json", '[{"title": "cat"}]', "none of the fields title is a class name"),
        ("a.csv", "index,name\nx,cat\n", "every class needs 'name' and a whole number as 'index'"),
        ("a.csv", "index,name\n0,cat\n0,dog\n", "gives two classes the same 'index'"),
        ("a.txt", "PK\0\0", "is not a text file"),
    ],
)
def test_bad_files(name, text, message):
    Path(name).write_text(text)
    with pytest.raises(LongTailError, match=message):
        read_class_names(name)


def test_a_missing_file():
    with pytest.raises(LongTailError, match=r"There is no file names\.txt"):
        read_class_names("names.txt")
