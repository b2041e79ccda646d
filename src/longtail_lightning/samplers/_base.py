"""What every training sampler shares: one global list per (seed, epoch), dealt to the ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch.distributed as dist
from torch import Generator, Tensor
from torch.utils.data import DistributedSampler

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import generator
from longtail_lightning.counts import as_labels

Labels = Sequence[int] | Tensor | Any


class LongTailSampler(DistributedSampler[int], ABC):
    """Base of the training samplers: a child writes `draw`, the global list of one epoch.

    The list depends on (seed, epoch) alone, and rank r of R takes its items r, r+R, r+2R, ...: each
    global batch holds what one process with the whole batch size would see, and a resumed run
    repeats an uninterrupted one. Being a `DistributedSampler`, it is left alone by Lightning; with
    a plain `DataLoader` and no process group it acts as the only replica. Call `set_epoch` as for
    any `DistributedSampler` (Lightning does).

    Args:
        labels: class index of each image of the data set.
        num_samples: images per epoch over all ranks; by default as many as there are labels.
        num_replicas: number of ranks; by default that of the process group at the time of use.
        rank: this rank; likewise.
        seed: must be the same on all ranks.
    """

    def __init__(
        self,
        labels: Labels,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        # DistributedSampler.__init__ is skipped on purpose: it demands a process group.
        self.labels = as_labels(labels)
        if num_samples is not None and num_samples < 1:
            raise LongTailError(f"num_samples={num_samples}: an epoch needs at least one image.")
        if rank is not None and not 0 <= rank < (num_replicas or rank + 1):
            raise LongTailError(f"rank={rank} is outside 0..{(num_replicas or 1) - 1} (num_replicas={num_replicas}).")
        self._num_samples = num_samples
        self._num_replicas = num_replicas
        self._rank = rank
        self.seed = seed
        self.epoch = 0

    @abstractmethod
    def draw(self, total: int, generator: Generator) -> Iterator[Tensor]:
        """Yield `total` dataset indices in pieces of any size.

        The first n indices must not depend on `total`, or ranks that do not divide the epoch
        would see another list.
        """

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        """Number of ranks that share the epoch."""
        if self._num_replicas is not None:
            return self._num_replicas
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    @property
    def rank(self) -> int:  # type: ignore[override]
        """The rank whose share is drawn."""
        if self._rank is not None:
            return self._rank
        return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """Images per epoch on this rank; rounded up, so that all ranks take as many steps."""
        total = self._num_samples if self._num_samples is not None else len(self.labels)
        return -(-total // self.num_replicas)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Images per epoch over all ranks."""
        return self.num_samples * self.num_replicas

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        replicas, rank, position = self.num_replicas, self.rank, 0
        for piece in self.draw(self.total_size, generator(self.seed, self.epoch)):
            yield from piece[(rank - position) % replicas :: replicas].tolist()
            position += len(piece)
