from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail_lightning import ClassCounts, SubsetId, long_tail_counts, long_tail_indices
from longtail_lightning._errors import LongTailError
from tests.reference.data import ldam_counts, ldam_subset

# Totals that the field compares on.
TOTALS = {
    (10, 10): 20431, (10, 50): 13996, (10, 100): 12406, (10, 200): 11203,
    (100, 10): 19573, (100, 50): 12608, (100, 100): 10847, (100, 200): 9502,
}  # fmt: skip


def cifar_like(num_classes: int, per_class: int) -> list[int]:
    labels = np.repeat(np.arange(num_classes), per_class)
    return np.random.RandomState(7).permutation(labels).tolist()


@pytest.mark.parametrize(("num_classes", "factor"), TOTALS)
def test_cifar_totals(num_classes, factor):
    assert long_tail_counts(num_classes, 50_000 / num_classes, factor).total == TOTALS[num_classes, factor]


@pytest.mark.parametrize("profile", ["exp", "step"])
@pytest.mark.parametrize("num_classes", [10, 7])
def test_counts_are_those_of_the_paper(profile, num_classes):
    counts = long_tail_counts(num_classes, 5000, 100, profile)
    assert counts.tolist() == ldam_counts(5000 * num_classes, num_classes, 100, profile)


def test_an_odd_number_of_classes_keeps_its_middle_class():
    # Public code makes C // 2 classes twice, and the data set loses the last one.
    assert long_tail_counts(5, 100, 10, "step").tolist() == [100, 100, 10, 10, 10]


@pytest.mark.parametrize("profile", ["exp", "step"])
@pytest.mark.parametrize(("num_classes", "per_class"), [(10, 500), (100, 50)])
def test_images_are_those_of_the_reference(profile, num_classes, per_class):
    labels = cifar_like(num_classes, per_class)
    counts = ldam_counts(len(labels), num_classes, 50, profile)
    expected = ldam_subset(labels, counts)
    indices = long_tail_indices(labels, 50, profile)
    assert indices.tolist() == sorted(expected)
    assert SubsetId.of("a", indices).checksum == SubsetId.of("b", expected).checksum


def test_no_image_is_drawn_twice():
    indices = long_tail_indices(cifar_like(10, 100), 10)
    assert len(indices.unique()) == len(indices)


def test_the_global_generator_plays_no_part_and_keeps_its_state():
    labels = cifar_like(10, 100)
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first = long_tail_indices(labels, 10)
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(2)
    assert torch.equal(first, long_tail_indices(labels, 10))
    assert not torch.equal(first, long_tail_indices(labels, 10, seed=1))


def test_pareto_is_a_straight_line_in_log_log():
    counts = long_tail_counts(1000, 1_000_000, 256, "pareto").tensor.double()
    slopes = counts.log().diff() / torch.arange(1, 1001).double().log().diff()
    assert counts[0] / counts[-1] == pytest.approx(256, rel=1e-3)
    assert slopes[:300].std() < 0.01 * slopes.mean().abs()
    assert slopes.mean() == pytest.approx(-np.log(256) / np.log(1000), rel=0.01)


@pytest.mark.parametrize("profile", ["exp", "step", "pareto"])
@pytest.mark.parametrize("factor", [49, 98, 103, 107])
def test_the_last_class_is_smaller_by_the_whole_factor(profile, factor):
    # In floating point, 49 * (1 / 49) is a little less than 1.
    assert long_tail_counts(10, 50 * factor, factor, profile)[-1] == 50
    assert long_tail_counts(10, factor, factor, profile)[-1] == 1


def test_counts_as_profile():
    labels = cifar_like(3, 20)
    for counts in ([4, 0, 2], ClassCounts([4, 0, 2])):
        picked = torch.tensor(labels)[long_tail_indices(labels, profile=counts)]
        assert ClassCounts.from_labels(picked, 3).tolist() == [4, 0, 2]


def test_a_smaller_class_asks_for_a_smaller_maximum():
    labels = [0] * 10 + [1] * 100
    with pytest.raises(LongTailError, match=r"Class 0 has 10 images but the long tail asks for 55 .* max_count=10 or"):
        long_tail_indices(labels, 10)
    assert len(long_tail_indices(labels, 10, max_count=10)) == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"imbalance_factor": 0.5}, "at least 1"),
        ({"profile": "expo"}, "Did you mean exp"),
        ({"profile": [5, 5]}, "counts for 2 classes, the labels have 3"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(LongTailError, match=message):
        long_tail_indices(cifar_like(3, 20), **options)


def test_the_id_names_the_images_and_not_their_order():
    one = SubsetId.of("x", [3, 1, 2])
    assert one == SubsetId.of("x", torch.tensor([1, 2, 3]))
    assert one.checksum != SubsetId.of("x", [1, 2, 4]).checksum
    assert "x, seed 0, 3 images" in str(one)
