"""What every training sampler shares: one global list per (seed, epoch), dealt to the ranks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch.distributed as dist
from torch import Generator, Tensor
from torch.utils.data import DistributedSampler

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning._random import generator

Labels = Sequence[int] | Tensor | Any

PIECE = 1 << 14
"""Indices made at once: small enough for the cache, large enough to hide Python."""


LARGEST_GROUP = 1_000_000


class LongTailSampler(DistributedSampler[int], ABC):
    """Base of the training samplers: a child writes `draw`, the global list of one epoch.

    The list depends on (seed, epoch) alone. It is dealt in groups of `group` neighbors (1, unless
    the child composes batches): rank r of R takes groups r, r+R, r+2R, ... So each global batch holds
    what one process with the whole batch size would see, no group is torn apart, and a resumed run
    repeats an uninterrupted one. Being a `DistributedSampler`, it is left alone by Lightning; with
    a plain `DataLoader` and no process group it acts as the only replica. Call `set_epoch` as for
    any `DistributedSampler` (Lightning does).

    Args:
        num_images: size of the data set.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group at the time of use.
        rank: this rank; likewise.
        seed: must be the same on all ranks.
    """

    accepts_multi_hot: ClassVar[bool] = False
    """Whether `labels` may be multi-hot, `(N, C)`, for images of several classes."""

    def __init__(
        self,
        num_images: int,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        # DistributedSampler.__init__ is skipped on purpose: it demands a process group.
        if num_samples is not None:
            require_whole(self, "num_samples", num_samples, 1)
        require_whole(self, "seed", seed)
        check_replicas(num_replicas, rank)
        self.num_images = num_images
        self.epoch_size = num_samples if num_samples is not None else num_images
        self._num_replicas = num_replicas
        self._rank = rank
        self.seed = seed
        self.epoch = 0

    @abstractmethod
    def draw(self, total: int, generator: Generator) -> Iterator[Tensor]:
        """Yield `total` dataset indices in pieces of any number of whole groups.

        The first n indices must not depend on `total`, or ranks that do not divide the epoch
        would see another list.
        """

    @property
    def group(self) -> int:
        """How many neighbors of the global list go to the same rank; a multiple of it makes a good batch size."""
        return 1

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
        """Images per epoch on this rank; rounded up to whole groups, so that all ranks take as many steps."""
        return -(-self.epoch_size // (self.group * self.num_replicas)) * self.group

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Images per epoch over all ranks."""
        return self.num_samples * self.num_replicas

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        group, replicas, rank, dealt = self.group, self.num_replicas, self.rank, 0
        for piece in self.draw(self.total_size, generator(self.seed, self.epoch)):
            # A piece may be a whole epoch; as Python integers it takes ten times the memory.
            for rows in piece.view(-1, group).split(max(1, PIECE // group)):  # type: ignore[no-untyped-call]
                yield from rows[(rank - dealt) % replicas :: replicas].flatten().tolist()
                dealt += len(rows)


def check_replicas(num_replicas: int | None, rank: int | None) -> None:
    """Refuse a rank that does not exist: its share would be empty, or that of another rank."""
    if num_replicas is not None:
        require_whole("A sampler", "num_replicas", num_replicas, 1)
    if rank is not None:
        require_whole("A sampler", "rank", rank)
    if rank is not None and not 0 <= rank < (num_replicas or math.inf):
        last = "" if num_replicas is None else num_replicas - 1
        raise LongTailError(f"rank={rank} is outside 0..{last} (num_replicas={num_replicas}).")


def require_group_size(owner: LongTailSampler, **sizes: int) -> None:
    """Refuse sizes of a group that are no whole numbers, or of which no batch is made: a group is drawn at once."""
    for name, size in sizes.items():
        require_whole(owner, name, size, 1)
    if math.prod(sizes.values()) > LARGEST_GROUP:
        given = " and ".join(f"{name}={size:,}" for name, size in sizes.items())
        raise LongTailError(f"{given}: more than {LARGEST_GROUP:,} images that belong together fit no batch.")


def cut(pieces: Iterator[Tensor], total: int) -> Iterator[Tensor]:
    """The first `total` indices of an endless stream."""
    for piece in pieces:
        yield piece[:total]
        total -= len(piece)
        if total <= 0:
            return
