"""Each image once per epoch, in random order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from longtail_lightning.samplers._base import LongTailSampler


class InstanceBalancedSampler(LongTailSampler):
    """Plain shuffling, but exact under DDP and on resume: the default of the data modules.

    **What it changes.** Nothing: classes appear as often as the data has them.

    **Formula.** A permutation of the data set per epoch; a longer epoch continues with further
    permutations. When the ranks do not divide it, the list is padded with its own beginning.

    **Shapes.** labels `(N,)`; yields `ceil(num_samples / num_replicas)` indices per rank.

    **When it helps, when it hurts.** Learns the best features (Decoupling, section 4.2); a classifier
    trained with it favors the head.

    **Classes without images** are never drawn.

    Args:
        labels: class index of each image.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Example:
        >>> sorted(InstanceBalancedSampler([0, 0, 0, 1]))
        [0, 1, 2, 3]

    **Paper.** Kang et al., ICLR 2020, section 3.1.

    **Differences from the authors' code.** Theirs is torch's RandomSampler, which draws from the
    global generator and so never repeats itself after a resume.
    """

    def draw(self, total: int, generator: Generator) -> Iterator[Tensor]:
        epoch = self._num_samples if self._num_samples is not None else len(self.labels)
        size = len(self.labels)
        head = torch.empty(0, dtype=torch.int64)
        for start in range(0, epoch, size):
            piece = torch.randperm(size, generator=generator)[: epoch - start]
            head = piece if start == 0 else head
            yield piece
        # More ranks than images: the beginning is repeated as often as it takes.
        for start in range(epoch, total, len(head)):
            yield head[: total - start]
