from __future__ import annotations

from collections import Counter

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtail_lightning import ClassCounts
from longtail_lightning._errors import LongTailError

any_counts = st.lists(st.integers(0, 5000), min_size=1, max_size=30).filter(any)


@pytest.mark.parametrize(
    "source", [[3, 1], (3, 1), torch.tensor([3, 1]), torch.tensor([3.0, 1.0]), ClassCounts([3, 1])]
)
def test_accepts_any_one_dimensional_integers(source):
    assert ClassCounts(source) == ClassCounts([3, 1])


def test_accepts_a_column_of_a_table():
    frame = pandas.DataFrame({"label": [0, 2, 0]})
    assert ClassCounts.from_labels(frame["label"]).tolist() == [2, 0, 1]


def test_accepts_numpy():
    assert ClassCounts(torch.tensor([3, 1]).numpy()).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([], "one number per class"),
        ([[1, 2]], "one number per class"),
        ([0, 0], "class_counts are all 0: the training set is empty"),
        ([1, -2], r"class_counts\[1\] is -2"),
        ([0.5, 0.5], "pass counts, not frequencies"),
        (Counter([0, 0, 1]), "is a Counter, whose classes have no order"),
        ({0: 5, 1: 2}, "is a dict, whose classes have no order"),
        (["a", "b"], "must be whole numbers"),
        ({3, 1}, "is a set, whose classes have no order"),
        (frozenset({3, 1}), "is a frozenset, whose classes have no order"),
        ({0: 5, 1: 2}.values(), "is a dict_values, whose classes have no order"),
        ({0: 5, 1: 2}.keys(), "is a dict_keys, whose classes have no order"),
        ((count for count in {3, 1}), "is a generator, whose classes have no order"),
        (map(int, {3, 1}), "is a map, whose classes have no order"),
        (b"12", "must be whole numbers, got .*: give a list"),
        ([3.0, float("nan")], r"class_counts\[1\] is nan"),
        ([float("inf"), 1.0], r"class_counts\[0\] is inf"),
        ([1j, 2], "class_counts are complex numbers"),
        ([True, False], "class_counts are True and False"),
        (torch.tensor([True, False]), "class_counts are True and False"),
        (np.array([True, False]), "class_counts are True and False"),
        ([2**63], "larger than 64 bits hold"),
        ([1e30], r"class_counts\[0\] is 1e\+30, larger than 64 bits hold"),
        (np.array([1, 2**63 + 5], dtype=np.uint64), r"class_counts\[1\] .*larger than 64 bits hold"),
        ([2**62, 2**62], "sum up to 9.2e.18 images, more than can be counted"),
    ],
)
def test_bad_counts_are_named_with_the_fix(counts, message):
    with pytest.raises(LongTailError, match=message):
        ClassCounts(counts)


def test_labels_outside_the_classes_are_named_with_their_place():
    with pytest.raises(LongTailError, match=r"labels\[2\] is 7, outside 0\.\.4"):
        ClassCounts.from_labels([0, 1, 7], num_classes=5)
    with pytest.raises(LongTailError, match=r"labels\[1\] is -1"):
        ClassCounts.from_labels([0, -1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({0, 2, 1}, "labels is a set, whose images have no order"),
        ({0: 2, 1: 0}.values(), "labels is a dict_values, whose images have no order"),
        ((label for label in {0, 1}), "labels is a generator, whose images have no order"),
        ([0.0, float("nan")], r"labels\[1\] is nan"),
        ([0.0, -float("inf")], r"labels\[1\] is -inf"),
        ([0, 1j], "labels are complex"),
        ([0.5, 1], "whole class indices, got fractions"),
        ([0, 10**9], r"labels\[1\] is 1000000000, which would make 1,000,000,001 classes of 2 images"),
        ([0, 10**18], "which would make 1,000,000,000,000,000,001 classes"),
        ([0, 10**30], "larger than 64 bits hold"),
    ],
)
def test_labels_that_cannot_be_are_refused_at_once(labels, message):
    with pytest.raises(LongTailError, match=message):
        ClassCounts.from_labels(labels)


@pytest.mark.parametrize("num_classes", [10**11, 10**30])
def test_more_classes_than_memory(num_classes):
    with pytest.raises(LongTailError, match="is more than 10,000,000"):
        ClassCounts.from_labels([0, 1], num_classes)


def test_labels_of_two_classes_may_be_false_and_true():
    assert ClassCounts.from_labels([False, True, True]).tolist() == [1, 2]


@given(any_counts)
def test_everything_is_finite_with_empty_classes(counts):
    counts = ClassCounts(counts)
    for values in (counts.prior(), counts.log_prior(), counts.effective_number(0.99)):
        assert bool(values.isfinite().all())
    for q in (0.0, 0.5, 1.0):
        probabilities = counts.sampling_probabilities(q)
        assert abs(float(probabilities.sum()) - 1) < 1e-12
        assert not bool(probabilities[counts.tensor == 0].any())


@given(any_counts, st.floats(0, 0.99999))
def test_effective_number_is_the_geometric_series(counts, beta):
    expected = [sum(beta**k for k in range(min(n, 3000))) if n <= 3000 else None for n in counts]
    for value, want in zip(ClassCounts(counts).effective_number(beta).tolist(), expected):
        assert want is None or value == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_effective_number_at_the_ends():
    assert ClassCounts([7, 0]).effective_number(1.0).tolist() == [7, 0]
    assert ClassCounts([7, 0]).effective_number(0.0).tolist() == [1, 0]
    with pytest.raises(LongTailError, match="finite beta from 0 to 1"):
        ClassCounts([1]).effective_number(1.5)


def test_square_root_probabilities_of_equation_1():
    torch.testing.assert_close(ClassCounts([4, 1]).sampling_probabilities(0.5), torch.tensor([2 / 3, 1 / 3]).double())


def test_splits_follow_the_convention():
    counts = ClassCounts([101, 100, 20, 19, 0])
    assert [index.tolist() for _, index in counts.shots()] == [[0], [1, 2], [3, 4]]
    assert [index.tolist() for _, index in counts.shots(convention="oltr")] == [[0, 1], [], [2, 3, 4]]
    assert [index.tolist() for _, index in counts.shots(many=20, few=20)] == [[0, 1], [2], [3, 4]]
    assert counts.shots().names() == ["many", "medium", "medium", "few", "few"]


def test_cifar100_lt_splits_are_the_published_ones():
    # 35 / 35 / 30 by the rule of Kang et al., 35 / 34 / 31 by that of OLTR: one class has exactly 20 images.
    counts = ClassCounts([int(500 * 0.01 ** (c / 99)) for c in range(100)])
    assert counts.total == 10847
    assert [len(index) for _, index in counts.shots()] == [35, 35, 30]
    assert [len(index) for _, index in counts.shots(convention="oltr")] == [35, 34, 31]


def test_wrong_bounds_are_refused():
    with pytest.raises(LongTailError, match="must not exceed"):
        ClassCounts([1]).shots(many=5, few=6)
    with pytest.raises(LongTailError, match="choose 'kang'"):
        ClassCounts([1]).shots(convention="kong")


def test_the_tensor_is_a_copy():
    counts = ClassCounts([2, 1])
    counts.tensor[0] = 9
    assert counts[0] == 2


@pytest.mark.parametrize("q", [1e9, -1e9, 1e308, -1e308])
def test_no_power_of_the_counts_is_too_large(q):
    probabilities = ClassCounts([500, 0, 50, 2]).sampling_probabilities(q)
    assert probabilities.tolist() == ([1, 0, 0, 0] if q > 0 else [0, 0, 0, 1])


def test_bounds_and_powers_are_numbers():
    counts = ClassCounts([500, 50, 5])
    for call in (
        lambda: counts.shots(many=None),
        lambda: counts.shots(few="a"),
        lambda: counts.effective_number(None),
        lambda: counts.sampling_probabilities("half"),
    ):
        with pytest.raises(LongTailError, match="needs a finite"):
            call()
