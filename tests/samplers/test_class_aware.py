from __future__ import annotations

from collections import Counter

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.samplers import ClassAwareSampler

COUNTS = [40, 0, 17, 5, 3, 1]
LABELS = torch.repeat_interleave(torch.arange(6), torch.tensor(COUNTS)).tolist()
PRESENT = [0, 2, 3, 4, 5]


def _groups(sampler):
    drawn, k = list(sampler), sampler.samples_per_class
    return [drawn[start : start + k] for start in range(0, len(drawn), k)]


@pytest.mark.parametrize("samples_per_class", [1, 2, 4, 7])
def test_every_class_once_per_cycle(samples_per_class):
    sampler = ClassAwareSampler(LABELS, samples_per_class, num_samples=20 * 5 * samples_per_class)
    groups = _groups(sampler)
    classes = [{LABELS[i] for i in group} for group in groups]
    assert all(len(group) == 1 for group in classes), "a group is of one class"
    order = [group.pop() for group in classes]
    cycles = [order[start : start + 5] for start in range(0, len(order), 5)]
    assert all(sorted(cycle) == PRESENT for cycle in cycles)
    assert len({tuple(cycle) for cycle in cycles}) > 1, "in another order each time"


@pytest.mark.parametrize("samples_per_class", [1, 2, 4, 7])
def test_every_image_once_before_one_comes_back(samples_per_class):
    sampler = ClassAwareSampler(LABELS, samples_per_class, num_samples=150 * 5 * samples_per_class)
    drawn = list(sampler)
    for c in PRESENT:
        of_class = [i for i in drawn if LABELS[i] == c]
        size = COUNTS[c]
        if size < samples_per_class:
            continue
        cycles = [of_class[start : start + size] for start in range(0, len(of_class) - size + 1, size)]
        assert all(len(set(cycle)) == size for cycle in cycles)
        assert size == 1 or len({tuple(cycle) for cycle in cycles}) > 1, "in another order each time"


@pytest.mark.parametrize("samples_per_class", [2, 4, 5])
def test_no_image_twice_in_a_group_unless_the_class_is_too_small(samples_per_class):
    # The authors' code repeats one wherever the order of the class starts anew inside a group.
    for group in _groups(ClassAwareSampler(LABELS, samples_per_class, num_samples=5000)):
        size = COUNTS[LABELS[group[0]]]
        assert len(set(group)) == min(size, samples_per_class)


def test_images_of_a_class_come_in_uniformly_random_order():
    labels = [0, 0, 0]
    orders = Counter()
    for seed in range(1200):
        orders[tuple(ClassAwareSampler(labels, 1, seed=seed))] += 1
    assert len(orders) == 6
    assert all(abs(count - 200) < 5 * (1200 * 5 / 36) ** 0.5 for count in orders.values())


def test_the_epoch_is_as_long_as_the_data_set():
    # The authors' sampler claims the largest class times the number of classes.
    labels = [0] * 1000 + list(range(1, 100))
    assert len(ClassAwareSampler(labels)) == 1100


@pytest.mark.parametrize("replicas", [2, 3])
def test_groups_stay_together_on_each_rank(replicas):
    # A strided wrapper gives each rank single images of every group.
    for rank in range(replicas):
        for group in _groups(ClassAwareSampler(LABELS, num_samples=240, num_replicas=replicas, rank=rank)):
            assert len({LABELS[i] for i in group}) == 1


def test_does_not_touch_the_global_generators():
    # The authors' code shuffles with Python's global generator.
    import random

    before = random.getstate(), torch.get_rng_state()
    list(ClassAwareSampler(LABELS))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_needs_an_image_per_class():
    with pytest.raises(LongTailError, match="at least 1"):
        ClassAwareSampler(LABELS, samples_per_class=0)
