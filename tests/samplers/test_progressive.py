from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.samplers import InstanceBalancedSampler, ProgressivelyBalancedSampler
from tests.samplers.frequencies import assert_class_frequencies

COUNTS = [400, 0, 90, 9, 1]
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS)).tolist()


def _mixture(balance):
    return [(1 - balance) * count / 500 + balance / 4 * (count > 0) for count in COUNTS]


@pytest.mark.parametrize(("endpoint", "balances"), [(False, [0, 0.25, 0.5, 0.75]), (True, [0, 1 / 3, 2 / 3, 1])])
def test_each_epoch_mixes_as_equation_2_says(endpoint, balances):
    sampler = ProgressivelyBalancedSampler(LABELS, epochs=4, endpoint=endpoint, num_samples=40_000)
    for epoch, balance in enumerate(balances):
        sampler.set_epoch(epoch)
        assert sampler.balance == pytest.approx(balance)
        assert sampler.class_probabilities().tolist() == pytest.approx(_mixture(balance))
        assert_class_frequencies(sampler, LABELS, _mixture(balance))


def test_epochs_after_the_last_keep_its_mixture():
    # Public code looks the epoch up in a list and ends in an IndexError.
    sampler = ProgressivelyBalancedSampler(LABELS, epochs=4, endpoint=True)
    sampler.set_epoch(9)
    assert sampler.balance == 1.0


def test_a_resumed_run_continues_with_the_mixture_of_its_epoch():
    sampler = ProgressivelyBalancedSampler(LABELS, epochs=10)
    for epoch in range(8):
        sampler.set_epoch(epoch)
        expected = list(sampler)
    fresh = ProgressivelyBalancedSampler(LABELS, epochs=10)
    fresh.set_epoch(7)
    assert list(fresh) == expected


def test_one_epoch_is_instance_balanced():
    for endpoint in (False, True):
        assert ProgressivelyBalancedSampler(LABELS, epochs=1, endpoint=endpoint).balance == 0.0
    assert len(ProgressivelyBalancedSampler(LABELS, epochs=1)) == len(InstanceBalancedSampler(LABELS))


def test_needs_an_epoch():
    with pytest.raises(LongTailError, match="at least 1"):
        ProgressivelyBalancedSampler(LABELS, epochs=0)
