"""The subsets that everybody compares on, and the faults of public code that changes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail_lightning import ClassCounts, SubsetId, long_tail_counts, long_tail_indices
from longtail_lightning._errors import LongTailError
from tests.reference import ldam_subset


def cifar_like(num_classes):
    """50,000 labels in a fixed random order, as those of CIFAR are."""
    each = 50_000 // num_classes
    return np.random.RandomState(2024).permutation(np.repeat(np.arange(num_classes), each))


# The numbers of public code, and of the papers' tables where they have them.
TOTALS = {10: {10: 20431, 50: 13996, 100: 12406, 200: 11203}, 100: {10: 19573, 50: 12608, 100: 10847, 200: 9502}}


@pytest.mark.parametrize("factor", [10, 50, 100, 200])
@pytest.mark.parametrize("num_classes", [10, 100])
def test_the_published_totals(num_classes, factor):
    assert long_tail_counts(num_classes, 50_000 / num_classes, factor).total == TOTALS[num_classes][factor]
    assert len(long_tail_indices(cifar_like(num_classes), factor)) == TOTALS[num_classes][factor]


@pytest.mark.parametrize("profile", ["exp", "step"])
@pytest.mark.parametrize(("num_classes", "factor"), [(10, 100), (10, 50), (100, 100), (100, 10)])
def test_the_images_are_those_of_ldam(num_classes, factor, profile):
    labels = cifar_like(num_classes)
    expected = ldam_subset.subset(labels.tolist(), factor, profile)
    ours = long_tail_indices(labels, factor, profile)
    assert ours.tolist() == sorted(expected)
    assert SubsetId.of("x", ours).checksum == SubsetId.of("x", expected).checksum


def test_the_draw_does_not_change_with_numpy():
    checksums = [SubsetId.of("x", long_tail_indices(cifar_like(n), 100)).checksum for n in (10, 100)]
    assert checksums == CHECKSUMS


CHECKSUMS = ["865b69af4d6d", "75334ca429a3"]


def test_no_image_is_taken_twice():
    # GLMC drew with replacement, which costs two points of accuracy.
    taken = long_tail_indices(cifar_like(10), 100)
    assert len(taken.unique()) == len(taken)


def test_a_step_over_an_odd_number_of_classes_keeps_the_last_class():
    # cls_num // 2 head and cls_num // 2 tail classes drop the last one.
    assert long_tail_counts(5, 100, 10, "step").tolist() == [100, 100, 10, 10, 10]
    labels = np.tile(np.arange(5), 100)
    taken = labels[long_tail_indices(labels, 10, "step")]
    assert ClassCounts.from_labels(taken).tolist() == [100, 100, 10, 10, 10]


def test_the_subset_does_not_depend_on_what_ran_before():
    # BBN, BALMS and CausalNorm draw from the global generator without seeding it.
    labels = cifar_like(10)
    first = long_tail_indices(labels, 100)
    np.random.rand(7), torch.rand(7)
    state = np.random.get_state()[1].tolist()
    assert torch.equal(long_tail_indices(labels, 100), first)
    assert np.random.get_state()[1].tolist() == state, "the caller's random numbers are left alone"


def test_the_first_images_of_each_class():
    # LTR weight balancing takes these: another subset with the same counts.
    labels = cifar_like(10)
    first = long_tail_indices(labels, 100, draw="first")
    counts = long_tail_counts(10, 5000, 100).tolist()
    expected = sorted(int(i) for c, n in enumerate(counts) for i in np.flatnonzero(labels == c)[:n])
    assert first.tolist() == expected
    assert not torch.equal(first, long_tail_indices(labels, 100))
    assert torch.equal(first, long_tail_indices(labels, 100, draw="first", seed=5))
    with pytest.raises(LongTailError, match="choose 'random' or 'first'"):
        long_tail_indices(labels, 100, draw="last")
