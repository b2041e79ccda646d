"""What holds for every training sampler, found by discovery."""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from longtail_lightning._errors import LongTailError
from longtail_lightning.samplers import EvaluationSampler, LongTailSampler
from tests.contracts.discover import COUNTS, LABELS, make, public_classes

SAMPLERS = [cls for cls in public_classes("samplers") if issubclass(cls, LongTailSampler)]
each_sampler = pytest.mark.parametrize("cls", SAMPLERS, ids=lambda cls: cls.__name__)


@each_sampler
def test_signature(cls):
    parameters = list(inspect.signature(cls).parameters)
    assert parameters[0] == "labels"
    assert parameters[-4:] == ["num_samples", "num_replicas", "rank", "seed"]


@each_sampler
@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
@pytest.mark.parametrize("num_samples", [None, 7, 200])
def test_ranks_together_draw_what_one_process_draws(cls, replicas, num_samples):
    sampler = make(cls, num_samples=num_samples, num_replicas=1, rank=0, seed=5)
    single, group = list(sampler), sampler.group
    ranks = [list(make(cls, num_samples=num_samples, num_replicas=replicas, rank=r, seed=5)) for r in range(replicas)]
    assert {len(rank) for rank in ranks} == {math.ceil(len(single) / group / replicas) * group}
    together = _deal_back(ranks, group)
    assert together[: len(single)] == single
    # Each global batch, too, holds what the single process's batch holds.
    batch = 4 * group
    assert sorted(i for rank in ranks for i in rank[:batch]) == sorted(together[: batch * replicas])


def _deal_back(ranks, group):
    """The global list from the shares of the ranks."""
    return [i for start in range(0, len(ranks[0]), group) for rank in ranks for i in rank[start : start + group]]


@each_sampler
def test_ranks_see_different_images_in_each_epoch_and_seed(cls):
    sampler = make(cls, seed=0)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] != epochs[1] != epochs[2]
    # seed + epoch would make epoch 1 of seed 0 the same as epoch 0 of seed 1.
    assert list(make(cls, seed=1)) not in epochs


@each_sampler
def test_an_epoch_depends_on_seed_and_epoch_alone(cls):
    sampler = make(cls, seed=3)
    sampler.set_epoch(4)
    expected = list(sampler)
    torch.rand(10)
    resumed = pickle.loads(pickle.dumps(make(cls, seed=3)))
    resumed.set_epoch(4)
    assert list(resumed) == expected == list(copy.deepcopy(sampler))


@each_sampler
def test_length_is_the_number_of_draws(cls):
    for options in ({}, {"num_samples": 11}, {"num_samples": 11, "num_replicas": 3, "rank": 2}):
        sampler = make(cls, **options)
        assert len(sampler) == len(list(sampler))


@each_sampler
def test_draws_valid_indices_and_never_an_absent_class(cls):
    labels = [0] * 5 + [2] * 3 + [6]
    drawn = set(make(cls, labels=labels, num_samples=300))
    assert drawn <= set(range(9))
    assert 8 in drawn, "the class with one image must be reachable"


@each_sampler
def test_fewer_images_than_ranks(cls):
    drawn = [list(make(cls, labels=[0, 1], num_replicas=5, rank=rank)) for rank in range(5)]
    group = make(cls).group
    assert all(len(rank) == group and set(rank) <= {0, 1} for rank in drawn)


@each_sampler
def test_is_a_distributed_sampler_that_works_in_a_plain_loader(cls):
    # Lightning wraps or replaces any other sampler; a public one does not know ranks at all
    # (issue 9 of ufoym/imbalanced-dataset-sampler).
    sampler = make(cls)
    assert isinstance(sampler, DistributedSampler)
    loader = DataLoader(torch.arange(len(LABELS)), batch_size=8, sampler=sampler)
    assert torch.cat(list(loader)).tolist() == list(sampler)


@each_sampler
def test_follows_the_process_group(cls, pool):
    ranks = pool.run(_draw, cls.__name__)
    sampler = make(cls)
    assert _deal_back(ranks, sampler.group)[: len(sampler)] == list(sampler)


def _draw(name: str) -> list[int]:
    import longtail_lightning

    return list(make(getattr(longtail_lightning, name)))


@each_sampler
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": []}, "labels are empty"),
        ({"labels": [[0, 1]]}, "labels must be 1-D"),
        ({"labels": [0, -1]}, r"labels\[1\] is -1"),
        ({"num_samples": 0}, "whole number of at least 1"),
    ],
)
def test_bad_input_is_named_with_the_fix(cls, options, message):
    if cls.accepts_multi_hot and options == {"labels": [[0, 1]]}:
        options = {"labels": [[[0, 1]]]}
    with pytest.raises(LongTailError, match=message):
        make(cls, **options)


def test_counts_of_the_table_are_those_of_the_labels():
    assert torch.bincount(torch.tensor(LABELS)).tolist() == COUNTS


@pytest.mark.parametrize("cls", [*SAMPLERS, EvaluationSampler], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_replicas": -1}, "of at least 1 as num_replicas, got -1"),
        ({"num_replicas": 0, "rank": 0}, "of at least 1 as num_replicas, got 0"),
        ({"num_replicas": math.nan}, "of at least 1 as num_replicas, got nan"),
        ({"num_replicas": 2, "rank": 2}, r"rank=2 is outside 0\.\.1 "),
        ({"num_replicas": 2, "rank": -1}, r"rank=-1 is outside 0\.\.1 "),
        ({"rank": -1}, r"rank=-1 is outside 0\.\. "),
    ],
)
def test_a_rank_that_does_not_exist_is_refused(cls, options, message):
    """Its share would be empty, or that of another rank."""
    with pytest.raises(LongTailError, match=message):
        EvaluationSampler(LABELS, **options) if cls is EvaluationSampler else make(cls, **options)
