"""Tables, lists, class names and folders with whatever stands in them."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from pathlib import Path

import torch
from hypothesis import strategies as st

from longtail_lightning import CSVLT, FeatureBank, ImageFolderLT, ImageListLT, read_class_names
from tests.fuzz.cases import Told, answer, fuzz

WORD = st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=("Cs",)), min_size=1, max_size=8)
CLASS = WORD.filter(lambda word: word.strip() == word)
ROWS = st.lists(st.tuples(st.integers(0, 99), CLASS), min_size=1, max_size=8)


@fuzz(ROWS, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_a_table_is_read_as_it_was_written(rows, delimiter, end, bom, quote):
    text = io.StringIO()
    writer = csv.writer(
        text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL
    )
    writer.writerow(["file name", "label"])
    writer.writerows([f"{number}.jpg", f"x{name}"] for number, name in rows)
    with tempfile.TemporaryDirectory() as folder:
        suffix = ".tsv" if delimiter == "\t" else ".csv"
        path = Path(folder, f"t{suffix}")
        path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())
        data = answer(lambda: CSVLT(path, path_column="file name", label_column="label", root=folder, val_split=0))
        if data is Told:
            return
        names = answer(lambda: data.class_names)
        if names is Told:
            return
        found = [names[label] for label in data.labels("train").tolist()]
        assert found == [f"x{name}" for _, name in rows]


@fuzz(
    st.one_of(st.text(max_size=200), st.binary(max_size=200)),
    st.sampled_from([".csv", ".tsv", ".txt", ".json", ".csv.gz"]),
)
def test_any_bytes(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"t{suffix}")
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        answer(lambda: read_class_names(path))
        for make in (lambda: CSVLT(path, path_column=0, label_column=1), lambda: ImageListLT(folder, train_list=path)):
            data = answer(make)
            if data is not Told:
                counts = answer(lambda data=data: data.class_counts)
                assert counts is Told or counts.total > 0


@fuzz(
    st.lists(st.tuples(WORD, WORD, st.sampled_from([".jpg", ".PNG", ".txt", "", ".jpeg"])), max_size=8),
    st.integers(0, 3),
)
def test_folders(files, odd):
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), {}
        for place, (group, stem, suffix) in enumerate(files):
            group, stem = (word.replace("/", "_").strip(". ") or "x" for word in (group, stem))
            path = folder / f"g{group}" / f"{place}{stem}{suffix}"
            try:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"")
            except (OSError, ValueError):
                continue
            if suffix in (".jpg", ".PNG", ".jpeg"):
                images.setdefault(path.parent.name, []).append(path)
        if odd == 1:
            os.mkfifo(folder / "pipe.jpg")
        if odd == 2:
            (folder / "loop").symlink_to(folder)
        data = answer(lambda: ImageFolderLT(folder, val_split=0, test_split=0))
        counts = Told if data is Told else answer(lambda: data.class_counts)
        if counts is not Told and odd != 2:
            assert counts.total == sum(map(len, images.values()))


@fuzz(st.data(), cost=4)
def test_a_bank_whose_files_were_changed(data):
    with tempfile.TemporaryDirectory() as name:
        made = FeatureBank.from_arrays(torch.arange(12.0).reshape(6, 2), [0, 1, 2, 0, 1, 2], texts=list("abcdef"))
        folder = made.save(Path(name) / "bank")
        file = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
        content = bytearray((folder / file).read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.sampled_from(["flip", "cut", "add", "zero"]))
        if change == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del content[place:]
        elif change == "add":
            content[place:place] = b"0"
        else:
            content[place:] = bytes(len(content) - place)
        before = (folder / file).read_bytes()
        (folder / file).write_bytes(content)
        found = answer(lambda: FeatureBank.load(folder, verify=True))
        assert found is Told or bytes(content) == before
        plain = answer(lambda: list(FeatureBank.load(folder, mmap=False).texts))
        assert plain is Told or len(plain) == 6
