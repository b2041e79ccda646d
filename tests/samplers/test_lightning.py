"""Under Lightning on two processes, whatever `use_distributed_sampler` says."""

from __future__ import annotations

import pytest

import longtail_lightning
from tests.contracts.discover import make
from tests.samplers.training import KINDS, loader, train


def _seen(name: str, use_distributed_sampler: bool) -> list[list[int]]:
    sampler = make(getattr(longtail_lightning, name), num_samples=64)
    options = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": use_distributed_sampler}
    module = train(lambda: loader(sampler, batch_size=sampler.group), epochs=2, **options)
    return [items for _, _, items in module.seen]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("use_distributed_sampler", [True, False])
def test_two_ranks_see_what_one_process_sees(name, use_distributed_sampler, pool):
    # Other samplers are wrapped and scrambled with True, and give both ranks the same items with False
    # (issue 9 of ufoym/imbalanced-dataset-sampler).
    ranks = pool.run(_seen, name, use_distributed_sampler)
    sampler, expected = make(getattr(longtail_lightning, name), num_samples=64, num_replicas=1, rank=0), []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        expected += [drawn[start : start + sampler.group] for start in range(0, len(drawn), sampler.group)]
    assert [batch for pair in zip(*ranks) for batch in pair][: len(expected)] == expected
