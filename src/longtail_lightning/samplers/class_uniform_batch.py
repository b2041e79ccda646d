"""Batches of m classes with k images each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from longtail_lightning.samplers._base import Labels, LongTailSampler, cut, require_group_size
from longtail_lightning.samplers._by_class import ByClass
from longtail_lightning.samplers._class_cycles import class_cycles


class ClassUniformBatchSampler(LongTailSampler):
    r"""Compose every batch of m different classes with k images each.

    **What it changes.** Each image has k - 1 others of its class in its batch, and all classes are
    seen equally often.

    **Formula.** Classes come in random orders, each cut to whole batches, so that none is twice in a
    batch; those cut off are others each time. Inside a class, images come in random order, and none
    comes back before the others have had their turn.

    **Shapes.** labels `(N,)`. An index sampler: give the loader `batch_size = classes_per_batch *
    samples_per_class`. Whole batches are dealt to the ranks, so each rank's batch is of this form. The
    epoch is rounded up to whole batches.

    **When it helps, when it hurts.** For losses that compare images within a batch (contrastive,
    triplet). A small k leaves few pairs, a large one few classes.

    **Classes without images** are never drawn. One with fewer than k images repeats them within the
    batch; fewer than m classes repeat, too.

    Args:
        labels: class index of each image.
        classes_per_batch: the m.
        samples_per_class: the k.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> labels = [0] * 90 + [1] * 9 + [2] * 2
        >>> sampler = ClassUniformBatchSampler(labels, classes_per_batch=2, samples_per_class=2, num_samples=4)
        >>> batch = list(sampler)
        >>> len(set(batch)), len({labels[index] for index in batch})
        (4, 2)

    **Paper.** Hermans et al., In Defense of the Triplet Loss, 2017, section 2 (batches of P x K).

    **Differences from the authors' code.** Public ones draw the images of a class with replacement or
    drop the small classes, and know no ranks.
    """

    def __init__(
        self,
        labels: Labels,
        classes_per_batch: int = 8,
        samples_per_class: int = 4,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        require_group_size(self, classes_per_batch=classes_per_batch, samples_per_class=samples_per_class)
        self._images = ByClass(labels)
        self.classes_per_batch = classes_per_batch
        self.samples_per_class = samples_per_class
        super().__init__(len(self._images), num_samples, num_replicas, rank, seed)

    @property
    def group(self) -> int:
        return self.classes_per_batch * self.samples_per_class

    def draw(self, total: int, generator: Generator) -> Iterator[Tensor]:
        return cut(self._batches(generator), total)

    def _batches(self, generator: Generator) -> Iterator[Tensor]:
        num_classes = len(self._images.classes)
        orders = -(-self.classes_per_batch // num_classes)  # more than one only where classes must repeat
        kept = orders * num_classes // self.classes_per_batch * self.classes_per_batch
        rounds = class_cycles(self._images, self.samples_per_class, generator)
        while True:
            chosen = [next(rounds)[torch.randperm(num_classes, generator=generator)] for _ in range(orders)]
            yield torch.cat(chosen)[:kept].flatten()
