from __future__ import annotations

import torch

from longtail_lightning.samplers import ReversedSampler
from tests.samplers.frequencies import assert_class_frequencies

COUNTS = [40, 0, 10, 5, 1]
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS)).tolist()


def test_classes_are_drawn_by_the_inverse_of_their_size():
    weights = [max(COUNTS) / count if count else 0.0 for count in COUNTS]
    sampler = ReversedSampler(LABELS, num_samples=100_000)
    assert_class_frequencies(sampler, LABELS, [weight / sum(weights) for weight in weights])
