"""What holds for every metric, found by discovery."""

from __future__ import annotations

import copy
import pickle
import warnings

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


@each_metric
def test_a_module_of_half_precision_counts_as_exactly(cls):
    """With many images, sums in half precision would stand still."""
    logits, target = torch.randn(4000, NUM_CLASSES), torch.arange(4000) % NUM_CLASSES
    plain, cast = make(cls), make(cls)
    torch.nn.ModuleList([cast]).to(torch.float16)
    for metric in (plain, cast):
        for rows in torch.arange(4000).split(500):
            metric.update(logits[rows], target[rows])
    torch.testing.assert_close(cast.compute(), plain.compute(), equal_nan=True)


@each_metric
def test_an_output_that_is_nan_is_a_wrong_answer(cls):
    """It never counts as class 0, nor as any other; a warning tells how many there were."""
    logits = torch.nn.functional.one_hot(torch.arange(40) % NUM_CLASSES, NUM_CLASSES) * 1000.0
    target = torch.arange(40) % NUM_CLASSES
    metric, wrong = make(cls), make(cls)
    for rows in torch.arange(40).split(10):
        bad = logits[rows].clone()
        bad[0, 3] = torch.nan  # the first of ten is of class 0
        bad[5] = torch.nan
        metric.update(bad, target[rows])
        bad = logits[rows].clone()
        bad[[0, 5]] = bad[[1, 1]]  # sure of another class
        wrong.update(bad, target[rows])
    with pytest.warns(UserWarning, match="8 of 40 outputs are NaN and count as wrong answers"):
        values = metric.compute()
    torch.testing.assert_close(values, wrong.compute(), equal_nan=True)


@each_metric
def test_an_infinite_logit_is_an_answer(cls):
    logits, target = torch.zeros(5, NUM_CLASSES), torch.arange(5) % NUM_CLASSES
    metric, sure = make(cls), make(cls)
    metric.update(logits.scatter(1, target[:, None], torch.inf), target)
    sure.update(logits.scatter(1, target[:, None], 1e30), target)
    torch.testing.assert_close(metric.compute(), sure.compute(), equal_nan=True)


@each_metric
def test_an_empty_batch_changes_nothing(cls):
    logits, target = torch.randn(9, NUM_CLASSES), torch.arange(9) % NUM_CLASSES
    metric, plain = make(cls), make(cls)
    metric.update(logits[:0], target[:0])
    metric.update(logits, target)
    metric.update(logits[:0], target[:0])
    plain.update(logits, target)
    torch.testing.assert_close(metric.compute(), plain.compute(), equal_nan=True)


def nan_on_both(_):
    from longtail_lightning import ShotAccuracy

    rank = torch.distributed.get_rank()
    metric = ShotAccuracy([9, 3])
    logits = torch.full((4, 2), torch.nan) if rank else torch.tensor([[1.0, 0.0]] * 4)
    metric.update(logits, torch.zeros(4, dtype=torch.int64))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        value = float(metric.compute()["acc"])
    return value, [str(each.message)[:40] for each in told]


def test_two_processes_count_together(pool):
    (first, told), (second, silent) = pool.run(nan_on_both, None)
    assert first == second == 0.5
    assert told == ["4 of 8 outputs are NaN and count as wron"]
    assert silent == []
