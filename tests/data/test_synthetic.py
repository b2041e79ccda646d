from __future__ import annotations

import pytest
import torch

from longtail_lightning import ClassBalancedSampler, SyntheticImages, SyntheticLongTail, labels_of
from longtail_lightning._errors import LongTailError


def test_images_depend_on_seed_and_index_alone():
    first, second = SyntheticImages([3, 2]), SyntheticImages([3, 2])
    order = [4, 0, 2, 1, 3]
    assert all(torch.equal(first[i][0], second[j][0]) for i, j in zip(range(5), sorted(order)) for _ in [first[order[i]]])
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], SyntheticImages([3, 2], seed=1)[0][0])
    assert not torch.equal(first[0][0], SyntheticImages([3, 2], split="test")[0][0])


def test_a_smaller_imbalance_only_adds_images():
    few, more = SyntheticImages([5, 2]), SyntheticImages([5, 4])
    assert torch.equal(few[6][0], more[6][0])


def test_default_set_is_long_tailed_with_balanced_evaluation():
    data = SyntheticLongTail()
    assert data.class_counts.num_classes == 50
    assert data.class_counts.imbalance_factor == 100
    assert [len(index) for _, index in data.class_counts.shots()] == [18, 17, 15]
    assert torch.bincount(data.labels("val")).unique().tolist() == [20]
    assert torch.bincount(data.labels("test")).unique().tolist() == [40]
    assert len(set(data.class_names)) == 50


def test_counts_need_no_image():
    data = SyntheticLongTail(max_count=10**4)
    data.build = None  # would fail if an image or data set were asked for
    assert SyntheticLongTail(max_count=10**4).class_counts[0] == 10**4


def test_each_color_occurs_from_head_to_tail():
    names = SyntheticLongTail().class_names
    for start in range(0, 50, 10):
        assert len({name.split()[1] for name in names[start : start + 10]}) == 5


def test_an_absent_class_keeps_its_number():
    data = SyntheticLongTail(num_classes=4, max_count=20, imbalance_factor=100)
    assert data.class_counts.tolist() == [20, 4, 0, 0]


def test_sampler_slot():
    data = SyntheticLongTail(num_classes=5, max_count=50, imbalance_factor=50, sampler=ClassBalancedSampler)
    assert isinstance(data.train_dataloader().sampler, ClassBalancedSampler)
    assert len(labels_of(data.dataset("train"))) == data.class_counts.total


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"imbalance_factor": 0.5}, "imbalance_factor=0.5 must be at least 1"),
        ({"num_classes": 1}, "got 1 classes"),
        ({"test_per_class": 0}, "test_per_class must be at least 1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(LongTailError, match=message):
        SyntheticLongTail(**options)
