"""What holds for every metric, found by discovery."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from tests.contracts.discover import NUM_CLASSES, make, public_classes

each_metric = pytest.mark.parametrize("cls", public_classes("metrics"), ids=lambda cls: cls.__name__)


@each_metric
def test_all_states_are_sums_so_that_memory_and_ddp_stay_exact(cls):
    metric = make(cls)
    assert all(isinstance(state, torch.Tensor) for state in metric._defaults.values())
    assert set(metric._reductions.values()) == {torch.sum} or all(
        r.__name__ == "dim_zero_sum" for r in metric._reductions.values()
    )


@each_metric
def test_batches_add_up_and_reset_forgets(cls):
    logits, target = torch.randn(60, NUM_CLASSES), torch.randint(NUM_CLASSES, (60,))
    whole, parts = make(cls), make(cls)
    whole.update(logits, target)
    for rows in torch.arange(60).split(13):
        parts.update(logits[rows], target[rows])
    torch.testing.assert_close(parts.compute(), whole.compute(), equal_nan=True)
    parts.reset()
    parts.update(logits, target)
    torch.testing.assert_close(parts.compute(), whole.compute(), equal_nan=True)


@each_metric
def test_survives_pickle_and_deepcopy_in_the_middle(cls):
    logits, target = torch.randn(60, NUM_CLASSES), torch.randint(NUM_CLASSES, (60,))
    metric = make(cls)
    metric.update(logits[:30], target[:30])
    for twin in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        twin.update(logits[30:], target[30:])
        whole = make(cls)
        whole.update(logits, target)
        torch.testing.assert_close(twin.compute(), whole.compute(), equal_nan=True)


@each_metric
def test_bf16_logits_are_fine(cls):
    metric = make(cls)
    metric.update(torch.randn(8, NUM_CLASSES).bfloat16(), torch.arange(8) % NUM_CLASSES)
    values = metric.compute()
    values = list(values.values()) if isinstance(values, dict) else [values]
    assert any(bool(value.isfinite().any()) for value in values)
