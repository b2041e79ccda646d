from __future__ import annotations

import pytest

from longtail_lightning.samplers import EvaluationSampler


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7])
def test_each_item_exactly_once_over_all_ranks(replicas):
    ranks = [list(EvaluationSampler(range(5), num_replicas=replicas, rank=rank)) for rank in range(replicas)]
    assert sorted(i for rank in ranks for i in rank) == list(range(5))
    assert [len(EvaluationSampler(range(5), replicas, rank)) for rank in range(replicas)] == [len(r) for r in ranks]
