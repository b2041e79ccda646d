from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from longtail_lightning import CSVLT
from longtail_lightning._errors import LongTailError
from tests.data import trees


def data(file="table.csv", **options):
    return CSVLT(file, **{"transforms": "none", "batch_size": 4, **options})


def write(text, name="table.csv", files=("1.jpg", "2.jpg", "3.jpg")):
    for file in files:
        trees.image(Path(file))
    Path(name).write_text(text, encoding="utf-8")


def test_a_column_of_splits():
    trees.table(Path("photos"))
    dm = data("photos/table.csv", split_column="split")
    assert dm.class_counts.tolist() == [6, 3, 2]
    assert dm.class_names == ["cat", "dog", "owl"]
    assert dm.labels("val").tolist() == [0, 1, 2]
    dm.setup("fit")
    images, labels, _ = next(iter(dm.test_dataloader()))
    assert images.shape == (4, 3, 16, 20)
    assert labels.tolist() == [0, 0, 1, 1]
    assert dm.item_name(0) == "test/cat/0.jpg"


def test_a_file_per_split_and_a_root():
    trees.image(Path("images/1.jpg"))
    for name, label in (("a", 0), ("b", 0), ("c", 0)):
        Path(f"{name}.csv").write_text(f"path,label\n1.jpg,{label}\n")
    dm = data("a.csv", val_file="b.csv", test_file="c.csv", root="images")
    dm.setup("fit")
    assert [len(dm.labels(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    with pytest.raises(LongTailError, match="split_column is for one file"):
        data("a.csv", val_file="b.csv", split_column="split")


SPECIES = "id;file;species\n7;1.jpg;b\n8;2.jpg;a\n9;3.jpg;b\n"
TABLES = {
    "names": ("path,label\n1.jpg,dog\n2.jpg,cat\n3.jpg,dog\n", {}),
    "numbers": ("path,label\n1.jpg,1\n2.jpg,0\n3.jpg,1\n", {}),
    "whole fractions": ("path,label\n1.jpg,1.0\n2.jpg,0.0\n3.jpg,1.0\n", {}),
    "leading zeros": ("path,label\n1.jpg,007\n2.jpg,001\n3.jpg,007\n", {}),
    "other columns": (SPECIES, {"path_column": "file", "label_column": "species"}),
    "by number": (SPECIES, {"path_column": 1, "label_column": -1}),
    "without a header": ("1.jpg,b\n2.jpg,a\n3.jpg,b\n", {"path_column": 0, "label_column": 1}),
    "without a header or suffix": ("1,1\n2,0\n3,1\n", {"path_column": 0, "label_column": 1, "suffix": ".jpg"}),
    "by number with a header, without a suffix": (
        "image,level\n1,1\n2,0\n3,1\n", {"path_column": 0, "label_column": 1, "suffix": ".jpg"},
    ),
    "blank lines and spaces": ("path, label\n\n1.jpg, dog\n2.jpg , cat\n3.jpg,dog\n\n", {}),
    "quotes": ('path,label\n"1.jpg","a, b"\n"2.jpg","a"\n"3.jpg","a, b"\n', {}),
    "a byte order mark": ("\ufeffpath,label\r\n1.jpg,dog\r\n2.jpg,cat\r\n3.jpg,dog\r\n", {}),
    "codes": ("path,label\n1.jpg,300\n2.jpg,20\n3.jpg,300\n", {"relabel": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables(name):
    text, options = TABLES[name]
    write(text)
    dm = data(**options)
    dm.setup("fit")
    assert dm.labels("train").tolist() == [1, 0, 1]
    assert dm.class_counts.tolist() == [1, 2]


def test_tabs_and_compression():
    write("path\tlabel\n1.jpg\ta, b\n2.jpg\tc\n", "table.tsv")
    assert data("table.tsv").class_names == ["a, b", "c"]
    Path("table.csv.gz").write_bytes(gzip.compress(b"path,label\n1.jpg,0\n"))
    assert data("table.csv.gz").class_counts.tolist() == [1]


def test_class_names_set_the_order_or_translate():
    write("path,label\n1.jpg,dog\n2.jpg,cat\n")
    assert data(class_names=["dog", "cat"]).labels("train").tolist() == [0, 1]
    dm = data(class_names=["Katze", "Hund"])
    assert dm.labels("train").tolist() == [1, 0]
    assert dm.class_names == ["Katze", "Hund"]


def test_labels_of_the_test_split_are_read_like_those_of_training():
    write("split,path,label\ntrain,1.jpg,1\ntrain,2.jpg,b\ntest,3.jpg,1\n")
    dm = data(split_column="split")
    assert dm.class_names == ["1", "b"]
    assert dm.labels("test").tolist() == [0]


BAD = {
    "no such column": ("path,lable\n1.jpg,0\n", {}, "no column 'label'. Did you mean lable"),
    "no such number": ("path,label\n1.jpg,0\n", {"label_column": 5}, r"has 2 columns, there is no column 5"),
    "empty": ("", {}, "is empty, expected a table"),
    "a header alone": ("path,label\n", {}, "has a header and no rows"),
    "a short row": ("path,label\n1.jpg,0\n2.jpg\n", {}, "row 3: 1 columns, expected at least 2"),
    "no label": ("path,label\n1.jpg,0\n2.jpg,\n", {}, "has no label in row 3"),
    "an unknown split": ("path,label,split\n1.jpg,0,fold1\n", {"split_column": "split"}, "holds 'fold1', expected"),
    "no training rows": ("path,label,split\n1.jpg,0,test\n", {"split_column": "split"}, "calls no row 'train'"),
    "a test class": (
        "path,label,split\n1.jpg,cat,train\n2.jpg,dog,test\n", {"split_column": "split"}, r"table\.csv lacks \(dog\)",
    ),
    "codes": ("path,label\n1.jpg,300\n2.jpg,20\n", {}, "run from 20 to 300, class indices start at 0: relabel=true"),
    "lost files": ("path,label\n7.jpg,0\n8.jpg,0\n", {}, r"2 of 2 files of table\.csv do not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(name):
    text, options, message = BAD[name]
    write(text)
    with pytest.raises(LongTailError, match=message):
        data(**options).setup("fit")


def test_bad_files():
    with pytest.raises(LongTailError, match=r"the table: there is no file table\.csv"):
        _ = data().class_counts
    write("", "table.xlsx")
    with pytest.raises(LongTailError, match=r"tables are read from \.csv"):
        _ = data("table.xlsx").class_counts


def jpeg(shade):
    file = io.BytesIO()
    Image.new("RGB", (20, 16), (shade,) * 3).save(file, "JPEG")
    return file.getvalue()


def parquet(name="table.parquet", metadata=None, **columns):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), name)
    return name


def test_parquet_with_paths():
    file = parquet(path=["1.jpg", "2.jpg", "1.jpg"], label=["dog", "cat", "dog"], other=[1, 2, 3])
    trees.image(Path("1.jpg")), trees.image(Path("2.jpg"))
    dm = data(file)
    dm.setup("fit")
    assert dm.class_counts.tolist() == [1, 2]
    assert next(iter(dm.train_dataloader()))[0].shape == (3, 3, 16, 20)


@pytest.mark.parametrize("workers", [0, 1])
def test_parquet_with_bytes(workers):
    file = parquet(image=[jpeg(40 * i) for i in range(5)], label=[0, 0, 1, 0, 1], split=["train"] * 3 + ["test"] * 2)
    dm = data(file, path_column="image", split_column="split", num_workers=workers)
    dm.setup("fit")
    assert dm.class_counts.tolist() == [2, 1]
    images, labels, _ = next(iter(dm.test_dataloader()))
    assert labels.tolist() == [0, 1]
    assert [round(float(image.float().mean()), -1) for image in images] == [120, 160]
    assert dm.item_name(0) == "table.parquet:3"


def test_parquet_as_the_datasets_library_writes_it():
    trees.image(Path("3.jpg"))
    images = [{"bytes": jpeg(0), "path": "a.jpg"}, {"bytes": jpeg(9), "path": None}, {"bytes": None, "path": "3.jpg"}]
    names = {"info": {"features": {"label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}}}
    file = parquet(image=images, label=[2, 0, 2], metadata={"huggingface": json.dumps(names)})
    dm = data(file, path_column=0, test_file=file)
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no image in table\.parquet \(dog\)"):
        dm.setup("fit")
    assert dm.class_names == ["cat", "dog", "owl"]
    assert dm.class_counts.tolist() == [1, 0, 2]
    assert [dm.item_name(i) for i in range(3)] == ["a.jpg", "table.parquet:1", "3.jpg"]
    assert dm.dataset("test")[2][0].shape == (3, 16, 20)


def test_bad_parquet():
    Path("table.parquet").write_text("no parquet")
    pytest.importorskip("pyarrow")
    with pytest.raises(LongTailError, match=r"table\.parquet cannot be read as Parquet"):
        _ = data("table.parquet").class_counts
    with pytest.raises(LongTailError, match="'path' is int64, expected paths or the bytes"):
        _ = data(parquet(path=[1, 2], label=[0, 1])).class_counts
    file = parquet(path=[b"no image", None], label=[0, 0])
    with pytest.raises(LongTailError, match=r"table\.parquet:0 cannot be decoded"):
        data(file).dataset("train")[0]
    with pytest.raises(LongTailError, match=r"table\.parquet:1 holds no image"):
        data(file).dataset("train")[1]
    with pytest.raises(LongTailError, match=r"has no label in row 0 \(2 in all\)"):
        _ = data(parquet(path=["1.jpg", "2.jpg"], label=[None, None])).class_counts


def test_without_pyarrow_the_error_says_what_to_install(monkeypatch):
    Path("table.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(LongTailError, match=r"pip install 'longtail-lightning\[parquet\]'"):
        _ = data("table.parquet").class_counts
