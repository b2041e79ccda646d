from __future__ import annotations

import math
from collections import Counter
from numbers import Real

import numpy as np
import torch
from hypothesis import strategies as st

from longtail_lightning import ClassCounts, labels_of
from tests.fuzz.cases import ODD_NUMBERS, Told, answer, fuzz

KINDS = {
    "list": list,
    "tuple": tuple,
    "set": lambda values: set(map(repr, values)),
    "iterator": iter,
    "dict": lambda values: dict(enumerate(values)),
    "array": lambda values: np.array(values),
    "object array": lambda values: np.array(values, dtype=object),
    "tensor": torch.tensor,
    "nested": lambda values: [values],
    "keys": lambda values: dict.fromkeys(map(repr, values)).keys(),
}
NUMBERS = st.lists(st.integers(0, 50), max_size=20)
VALUES = st.one_of(NUMBERS, NUMBERS, st.lists(ODD_NUMBERS, max_size=8))


def given_as(kind, values):
    try:
        return KINDS[kind](values)
    except Exception:  # numpy and torch refuse some lists themselves
        return list(values)


def is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and value == int(value)


@fuzz(VALUES, st.sampled_from(sorted(KINDS)))
def test_counts(values, kind):
    found = answer(lambda: ClassCounts(given_as(kind, values)))
    if found is not Told:
        # An array of numbers and truth values is one of numbers.
        mixed = kind in ("array", "tensor") and not all(isinstance(value, bool) for value in values)
        assert all(is_number(value) or (mixed and isinstance(value, bool)) for value in values)
        assert found.tolist() == [int(value) for value in values]
        assert float(found.prior().sum()) == 1 or math.isclose(float(found.prior().sum()), 1)
        assert bool(found.log_prior().isfinite().all())
        assert found.shots(many=5, few=2).names() == ["many" if n > 5 else "few" if n < 2 else "medium" for n in values]
    elif kind in ("list", "tuple", "array", "tensor"):
        assert not values or not all(map(is_number, values)) or min(values) < 0 or not 0 < sum(values) < 2**53


@fuzz(VALUES, st.sampled_from(sorted(KINDS)), st.one_of(st.none(), st.integers(-2, 60), st.just(10**12)))
def test_labels(values, kind, num_classes):
    found = answer(lambda: ClassCounts.from_labels(given_as(kind, values), num_classes))
    if found is not Told:
        counted = Counter(int(value) for value in values)
        assert found.tolist() == [counted[c] for c in range(len(found))]
        assert len(found) == (num_classes or max(counted) + 1)
        assert sum(found.tolist()) == len(values)


@fuzz(NUMBERS, ODD_NUMBERS, ODD_NUMBERS)
def test_numbers_of_counts(values, first, second):
    counts = ClassCounts([*values, 1])
    for call in (
        lambda: counts.sampling_probabilities(first),
        lambda: counts.effective_number(first),
    ):
        found = answer(call)
        assert found is Told or bool(found.isfinite().all())
    answer(lambda: counts.shots(many=first, few=second))


@fuzz(NUMBERS)
def test_labels_of_a_data_set(values):
    class Data(torch.utils.data.Dataset):
        targets = values

        def __len__(self):
            return len(values)

        def __getitem__(self, index):
            raise AssertionError("nothing is decoded")

    found = answer(lambda: labels_of(Data()))
    assert found is Told or found.tolist() == values
