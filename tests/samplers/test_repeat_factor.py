from __future__ import annotations

from collections import Counter

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.samplers import RepeatFactorSampler

COUNTS = [400, 0, 90, 9, 1]
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS)).tolist()


def _factor(frequency, threshold):
    return max(1.0, (threshold / frequency) ** 0.5)


def test_repeat_factors_of_class_indices():
    expected = [_factor(COUNTS[label] / 500, 0.3) for label in LABELS]
    assert RepeatFactorSampler(LABELS, threshold=0.3).repeat_factors.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_repeat_factors_of_multi_hot_labels(dtype):
    hot = (torch.rand(5000, 6) < torch.tensor([0.9, 0.3, 0.1, 0.02, 0.003, 0.0])).to(dtype)
    share = hot.double().mean(0).tolist()
    expected = [max([_factor(share[c], 0.2) for c in range(6) if row[c]], default=1.0) for row in hot.bool().tolist()]
    assert RepeatFactorSampler(hot, threshold=0.2).repeat_factors.tolist() == pytest.approx(expected)


def test_one_label_per_image_is_the_same_in_both_forms():
    hot = torch.nn.functional.one_hot(torch.tensor(LABELS))
    assert list(RepeatFactorSampler(hot, threshold=0.3)) == list(RepeatFactorSampler(LABELS, threshold=0.3))


def test_each_epoch_rounds_every_image_up_or_down():
    sampler = RepeatFactorSampler(LABELS, threshold=0.3)
    factors, epochs, total = sampler.repeat_factors, 1000, Counter()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert len(drawn) == len(sampler) == -(-factors.sum().item() // 1)
        total.update(drawn)
        if epoch < 20:
            counts = torch.bincount(torch.tensor(drawn), minlength=500)
            # The one image that fills up the epoch may come on top.
            beyond = (counts - factors.ceil()).clamp(min=0).sum()
            assert bool((counts >= factors.floor()).all())
            assert beyond <= 1
    # Rounding up has the probability of the fraction.
    for image in (0, 400, 495, 499):
        fraction = float(factors[image] % 1)
        bound = 5 * (epochs * max(fraction * (1 - fraction), 0.01)) ** 0.5
        assert abs(total[image] - epochs * float(factors[image])) < bound


def test_without_rare_classes_an_epoch_is_a_permutation():
    assert sorted(RepeatFactorSampler(LABELS, threshold=0.0)) == list(range(500))


def test_an_image_without_a_class_is_drawn_once():
    sampler = RepeatFactorSampler([[1, 0], [1, 0], [0, 0], [0, 1]], threshold=1.0)
    assert sampler.repeat_factors.tolist() == pytest.approx([2**0.5, 2**0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("labels", "threshold", "message"),
    [
        ([[0, 2]], 0.1, "multi-hot, 0 and 1 only"),
        (torch.zeros(0, 3), 0.1, "labels are empty"),
        (LABELS, 1.5, r"must lie in \[0, 1\]"),
    ],
)
def test_bad_input(labels, threshold, message):
    with pytest.raises(LongTailError, match=message):
        RepeatFactorSampler(labels, threshold=threshold)


def rounded_up(labels, threshold, passes):
    """How much more than the whole part of its factor each image was given, in each of many passes."""
    sampler = RepeatFactorSampler(labels, threshold=threshold)
    drawn = [sampler.one_pass(torch.Generator().manual_seed(seed)) for seed in range(passes)]
    counts = torch.stack([torch.bincount(each, minlength=len(labels)) for each in drawn])
    return sampler.repeat_factors, counts - sampler.repeat_factors.floor()


def test_rounding_keeps_the_mean_of_every_image():
    factors, up = rounded_up([0, 0, 1], 0.9, 4000)
    fraction = factors % 1
    bound = 5 * (fraction * (1 - fraction) / 4000).sqrt()
    assert bool(((up.double().mean(0) - fraction).abs() < bound).all())
    assert set(up.unique().tolist()) == {0, 1}


def test_images_are_rounded_independently_of_their_place_in_the_files():
    factors, up = rounded_up([1, 1, 1, 1, 0, 0, 0, 0, 0], 1.0, 200)
    assert factors[:4].tolist() == [1.5] * 4
    for other in (1, 2, 3):
        assert 0.1 < float((up[:, 0] == up[:, other]).double().mean()) < 0.9


@pytest.mark.parametrize("labels", [[""], [2**63], [None], ["cat", "dog"]])
def test_labels_that_are_no_numbers(labels):
    with pytest.raises(LongTailError, match="labels"):
        RepeatFactorSampler(labels)
