"""Each image once per epoch, in random order."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from longtail_lightning.counts import as_labels
from longtail_lightning.samplers._base import Labels
from longtail_lightning.samplers._passes import PassSampler


class InstanceBalancedSampler(PassSampler):
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

    Examples:
        >>> sorted(InstanceBalancedSampler([0, 0, 0, 1]))
        [0, 1, 2, 3]

    **Paper.** Kang et al., ICLR 2020, section 3.1.

    **Differences from the authors' code.** Theirs is torch's RandomSampler, which draws from the
    global generator and so never repeats itself after a resume.
    """

    def __init__(
        self,
        labels: Labels,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(len(as_labels(labels)), num_samples, num_replicas, rank, seed)

    def one_pass(self, generator: Generator) -> Tensor:
        return torch.randperm(self.num_images, generator=generator)
