from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtail_lightning import LongTailError
from longtail_lightning.features._strings import Integers, Strings, column_of, column_of_arrays

WORDS = ["cat", "", "dög", 'a "quoted"\nline', "\udcff.jpg", "鳥" * 50, "\ud83d", "end"]


def test_a_sequence_of_strings():
    strings = Strings.of(WORDS)
    assert len(strings) == len(WORDS)
    assert list(strings) == WORDS
    assert [strings[i] for i in range(-len(WORDS), 0)] == WORDS
    assert (strings[1:4], strings[::-2], strings[3:3]) == (WORDS[1:4], WORDS[::-2], [])
    assert isinstance(strings[1:4], Strings)
    assert strings == WORDS
    assert strings == Strings.of(tuple(WORDS))
    assert strings != WORDS[:-1]
    assert strings != [*WORDS[:-1], "End"]
    assert (strings == "text", strings is None) == (False, False)
    assert "dög" in strings
    assert strings.index("end") == 7
    for wrong in (8, -9):
        with pytest.raises(IndexError, match=f"there is no item {wrong} of 8"):
            strings[wrong]
    assert repr(strings) == "Strings(['cat', '', 'dög', ...])"
    assert repr(Strings.of([])) == "Strings([])"
    assert pickle.loads(pickle.dumps(strings)) == WORDS


@given(st.lists(st.text(st.characters())), st.data())
def test_any_strings_come_back_and_any_rows_of_them(values, data):
    strings = Strings.of(values)
    assert list(strings) == values
    if values:
        rows = data.draw(st.lists(st.integers(0, len(values) - 1)))
        assert list(strings.take(np.array(rows, dtype=np.int64))) == [values[row] for row in rows]


def test_many_rows_are_taken_in_pieces(monkeypatch):
    from longtail_lightning.features import _strings

    monkeypatch.setattr(_strings, "_ROWS", 3)
    rows = np.array([7, 0, 0, 5, 2, 1, 6, 3])
    assert Strings.of(WORDS).take(rows) == [WORDS[row] for row in rows]


def test_rows_are_taken_without_a_string_each(monkeypatch):
    strings = Strings.of(WORDS)
    with monkeypatch.context() as patch:
        patch.setattr(Strings, "_item", lambda *_: pytest.fail("a Python string was made"))
        part = strings.take(np.arange(4))[1:]
    assert part == WORDS[1:4]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["a", Path("b/c"), np.str_("d")], Strings, ["a", "b/c", "d"]),
        (np.array(["a", "bc"]), Strings, ["a", "bc"]),
        (np.array(["a", "bc"], dtype=object), Strings, ["a", "bc"]),
        ([3, np.int32(5), -1], Integers, [3, 5, -1]),
        (np.array([3, 5], dtype=np.uint8), Integers, [3, 5]),
        (torch.tensor([3, 5]), Integers, [3, 5]),
        (range(2, 4), Integers, [2, 3]),
    ],
)
def test_ids_are_strings_or_whole_numbers(values, kind, expected):
    column = column_of(values, "ids")
    assert type(column) is kind
    assert column == expected
    assert {type(value) for value in column} == {str if kind is Strings else int}
    arrays = column.arrays("ids")
    assert column_of_arrays(arrays, "ids") == expected
    assert column.take(np.array([1, 0, 1])) == [expected[1], expected[0], expected[1]]


@pytest.mark.parametrize(
    ("values", "called", "message"),
    [
        (["a", 1], "ids", r"ids\[1\] is 1, not a string: give strings, or whole numbers alone"),
        ([0.5], "ids", r"ids\[0\] is 0\.5, not a string"),
        (["a", None], "texts", r"texts\[1\] is None, not a string: give strings, '' where there is none"),
        ([1, 2], "texts", r"texts\[0\] is 1, not a string"),
        ([1 << 64], "ids", "more than 64 bits: give them as strings"),
    ],
)
def test_other_values_are_named(values, called, message):
    with pytest.raises(LongTailError, match=message):
        column_of(values, called)


def test_arrays_that_contradict_each_other():
    good = Strings.of(["a", "bc"]).arrays("ids")
    for wrong in (
        {**good, "ids": good["ids"][:-1]},
        {**good, "ids_offsets": good["ids_offsets"][1:]},
        {**good, "ids_offsets": good["ids_offsets"][:0]},
        {**good, "ids_offsets": good["ids_offsets"].astype(np.int32)},
        {"ids": good["ids"]},
    ):
        with pytest.raises(ValueError, match="ids"):
            column_of_arrays(wrong, "ids")
    assert column_of_arrays(good, "texts") is None
