"""Each item exactly once over all ranks, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch.distributed as dist
from torch.utils.data import DistributedSampler

from longtail_lightning.samplers._base import check_replicas


class EvaluationSampler(DistributedSampler[int]):
    """Deal the items to the ranks without padding, so that no image is counted twice.

    **What it changes.** torch's `DistributedSampler` repeats images until the ranks divide them,
    which makes every metric slightly wrong. Here ranks may differ by one item; metrics that sum
    their counts over ranks (those of this library) are exact.

    **Formula.** Rank r of R takes items r, r+R, r+2R, ...

    **Shapes.** A data set of N items; yields about N / R indices per rank.

    **When it helps, when it hurts.** For validation, test and prediction. Never for training: ranks
    with unequal numbers of batches wait for each other forever.

    Args:
        dataset: anything with a length.
        num_replicas: number of ranks; by default that of the process group at the time of use.
        rank: this rank; likewise.

    Examples:
        >>> [list(EvaluationSampler(range(5), num_replicas=2, rank=rank)) for rank in (0, 1)]
        [[0, 2, 4], [1, 3]]

    **Paper.** None.

    **Differences from the authors' code.** Public code evaluates on padded shards.
    """

    def __init__(self, dataset: Sized, num_replicas: int | None = None, rank: int | None = None) -> None:
        # DistributedSampler.__init__ is skipped on purpose: it demands a process group.
        check_replicas(num_replicas, rank)
        self._size = len(dataset)
        self._num_replicas = num_replicas
        self._rank = rank
        self.epoch = 0

    def _indices(self) -> range:
        grouped = dist.is_available() and dist.is_initialized()
        replicas = self._num_replicas or (dist.get_world_size() if grouped else 1)
        rank = self._rank if self._rank is not None else (dist.get_rank() if grouped else 0)
        return range(rank, self._size, replicas)

    def __len__(self) -> int:
        return len(self._indices())

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())
