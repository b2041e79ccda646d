from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail_lightning.samplers._class_draws import alias_table


def _probabilities_of(keep, alias):
    return keep.clone().index_add_(0, alias, 1 - keep) / len(keep)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_the_alias_table_holds_the_probabilities(weights):
    probabilities = torch.tensor(weights, dtype=torch.float64)
    probabilities /= probabilities.sum()
    keep, alias = alias_table(probabilities)
    assert 0 <= float(keep.min()) <= float(keep.max()) <= 1
    torch.testing.assert_close(_probabilities_of(keep, alias), probabilities, rtol=0, atol=1e-14)


@pytest.mark.parametrize("num_classes", [1, 2, 1000, 8142, 100_000])
def test_many_classes_and_one_giant(num_classes):
    weights = torch.ones(num_classes, dtype=torch.float64)
    weights[num_classes // 2] = 1e7
    probabilities = weights / weights.sum()
    torch.testing.assert_close(_probabilities_of(*alias_table(probabilities)), probabilities, rtol=0, atol=1e-11)
