from __future__ import annotations

import pytest
import torch

from longtail_lightning.samplers import ClassBalancedSampler, PowerSampler, SquareRootSampler
from tests.samplers.frequencies import assert_class_frequencies

COUNTS = [400, 0, 90, 9, 1]
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS))[torch.randperm(500)].tolist()


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 1.0, 1.5])
def test_class_frequencies_are_those_of_equation_1(q):
    powers = [count**q if count else 0.0 for count in COUNTS]
    sampler = PowerSampler(LABELS, q=q, num_samples=150_000)
    assert_class_frequencies(sampler, LABELS, [power / sum(powers) for power in powers])


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_images_of_a_class_are_equally_likely(q):
    counts, total = [40, 0, 9, 4, 1], 200_000
    labels = torch.repeat_interleave(torch.arange(5), torch.tensor(counts))[torch.randperm(54)]
    drawn = torch.bincount(torch.tensor(list(PowerSampler(labels, q=q, num_samples=total))), minlength=54)
    powers = torch.tensor([count**q if count else 0.0 for count in counts], dtype=torch.float64)
    expected = (total * powers / powers.sum() / torch.tensor(counts).clamp(min=1))[labels]
    assert bool(((drawn - expected).abs() < 5 * expected.sqrt()).all())


@pytest.mark.parametrize(("cls", "q"), [(ClassBalancedSampler, 0.0), (SquareRootSampler, 0.5)])
def test_named_powers(cls, q):
    assert list(cls(LABELS, seed=2)) == list(PowerSampler(LABELS, q=q, seed=2))


def test_works_beyond_the_limit_of_multinomial():
    labels = torch.zeros(2**24 + 2, dtype=torch.int8)
    labels[-2:] = 1
    drawn = set(PowerSampler(labels, q=0, num_samples=64))
    assert {2**24, 2**24 + 1} & drawn
