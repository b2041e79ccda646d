"""Samplers that go through the data set, pass after pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from torch import Generator, Tensor

from longtail_lightning.samplers._base import LongTailSampler


class PassSampler(LongTailSampler):
    """An epoch of passes: one, as long as the epoch, unless `num_samples` asks for less or more.

    A longer epoch continues with further passes, a shorter one is cut. When the ranks do not divide
    it, the list is padded with its own beginning: a permutation of another length would have been
    another permutation.

    Args:
        num_images: size of the data set.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.
    """

    @abstractmethod
    def one_pass(self, generator: Generator) -> Tensor:
        """The indices of one pass, in random order."""

    def draw(self, total: int, generator: Generator) -> Iterator[Tensor]:
        head = self.one_pass(generator)[: self.epoch_size]
        yield head
        done = len(head)
        while done < self.epoch_size:
            piece = self.one_pass(generator)[: self.epoch_size - done]
            yield piece
            done += len(piece)
        # More ranks than images: the beginning is repeated as often as it takes.
        for start in range(done, total, len(head)):
            yield head[: total - start]
