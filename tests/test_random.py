from __future__ import annotations

import torch

from longtail_lightning._random import generator, mix, temporary_seed


def test_neighboring_seeds_share_no_epochs():
    keys = {mix(seed, epoch) for seed in range(50) for epoch in range(50)}
    assert len(keys) == 2500
    assert all(0 <= key < 2**63 for key in keys)


def test_generators_repeat():
    assert torch.equal(torch.rand(3, generator=generator(1, 2)), torch.rand(3, generator=generator(1, 2)))


def test_isolation_does_not_touch_accelerators(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with temporary_seed(1):
        pass
    assert not seeded


def test_isolation_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with temporary_seed(1):
        torch.rand(100)
    assert torch.equal(torch.rand(2), expected)
