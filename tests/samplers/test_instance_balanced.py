from __future__ import annotations

from longtail_lightning.samplers import InstanceBalancedSampler


def test_each_image_once_per_epoch():
    assert sorted(InstanceBalancedSampler([0] * 99 + [1])) == list(range(100))


def test_a_longer_epoch_continues_with_further_permutations():
    drawn = list(InstanceBalancedSampler([0] * 10, num_samples=25))
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))
    assert drawn[:10] != drawn[10:20]
    assert len(set(drawn[20:])) == 5


def test_pads_with_the_beginning_of_the_list():
    ranks = [list(InstanceBalancedSampler([0] * 10, num_replicas=4, rank=rank)) for rank in range(4)]
    together = [i for group in zip(*ranks) for i in group]
    assert together[10:] == together[:2]
