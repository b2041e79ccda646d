from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.samplers import EffectiveNumberSampler
from tests.samplers.frequencies import assert_class_frequencies

COUNTS = [400, 0, 90, 9, 1]
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS)).tolist()


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.99, 0.9999, 1.0])
def test_images_are_weighed_by_one_over_the_effective_number(beta):
    # The geometric sum itself: 1 + beta + ... + beta^(n-1).
    effective = [sum(beta**k for k in range(count)) for count in COUNTS]
    weights = [count / number if count else 0.0 for count, number in zip(COUNTS, effective)]
    expected = [weight / sum(weights) for weight in weights]
    sampler = EffectiveNumberSampler(LABELS, beta=beta, num_samples=100_000)
    assert sampler.class_probabilities().tolist() == pytest.approx(expected)
    assert_class_frequencies(sampler, LABELS, expected)


def test_beta_is_checked():
    with pytest.raises(LongTailError, match="finite beta from 0 to 1"):
        EffectiveNumberSampler(LABELS, beta=1.5)
