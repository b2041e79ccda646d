"""Subsets of data as large as CIFAR."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail_lightning import SubsetId, long_tail_counts, long_tail_indices
from longtail_lightning._errors import LongTailError
from tests.reference.data import ldam_counts, ldam_subset

# For `cifar_like` labels and factor 100: another numpy must draw the same images.
CHECKSUMS = {10: "865b69af4d6d", 100: "75334ca429a3"}


def cifar_like(num_classes):
    """50,000 labels in a fixed random order, as those of CIFAR are."""
    each = 50_000 // num_classes
    return np.random.RandomState(2024).permutation(np.repeat(np.arange(num_classes), each))


@pytest.mark.parametrize("profile", ["exp", "step"])
@pytest.mark.parametrize("factor", [10, 50, 100, 200])
@pytest.mark.parametrize("num_classes", [10, 100])
def test_the_images_are_those_of_ldam(num_classes, factor, profile):
    labels = cifar_like(num_classes)
    expected = ldam_subset(labels.tolist(), ldam_counts(50_000, num_classes, factor, profile))
    assert long_tail_indices(labels, factor, profile).tolist() == sorted(expected)


@pytest.mark.parametrize("num_classes", [10, 100])
def test_the_draw_does_not_change_with_numpy(num_classes):
    assert SubsetId.of("x", long_tail_indices(cifar_like(num_classes), 100)).checksum == CHECKSUMS[num_classes]


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
