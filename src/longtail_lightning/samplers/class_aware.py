"""A cycle over classes, and a cycle over images inside each (Decoupling's class-balanced sampling)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from longtail_lightning.samplers._base import Labels, LongTailSampler, cut, require_group_size
from longtail_lightning.samplers._by_class import ByClass
from longtail_lightning.samplers._class_cycles import class_cycles


class ClassAwareSampler(LongTailSampler):
    """Every class once per cycle, in random order, with a few images each time.

    **What it changes.** All classes are seen equally often, without the luck of independent draws: a
    class comes back when all others have been, an image when the rest of its class has.

    **Formula.** A random order of the classes per cycle; each class gives its next
    `samples_per_class` images from a random order of its own, which is drawn anew when it is used up.

    **Shapes.** labels `(N,)`; yields whole groups of `samples_per_class` indices, which stay together on
    one rank: a batch of B per rank holds `B / samples_per_class` classes.

    **Epoch length.** As many images as the data set has, rounded up to whole groups. That is also where
    the authors' trainer stops: their sampler claims the largest class times the number of
    classes, 19 times the data on iNaturalist 2018, but each epoch ends after `N // batch_size` steps.

    **When it helps, when it hurts.** The authors' sampler for re-training a classifier (cRT, LWS).
    For learning features it repeats tail images often and overfits them.

    **Classes without images** are never drawn. One with fewer than `samples_per_class` images repeats
    them within the group.

    Args:
        labels: class index of each image.
        samples_per_class: images of a class that follow each other.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> labels = [0] * 90 + [1] * 9 + [2]
        >>> drawn = list(ClassAwareSampler(labels, samples_per_class=4, num_samples=12))
        >>> sorted(labels[index] for index in drawn)
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]

    **Paper.** Shen et al., Relay Backpropagation, ECCV 2016, section 3.2; Kang et al., ICLR 2020, section 3.1.

    **Differences from the authors' code.** Theirs uses the unseeded generator of Python, knows no ranks,
    fails on a class without images, and repeats an image within a group wherever the order of a
    class starts anew; here only where the class is too small.
    """

    def __init__(
        self,
        labels: Labels,
        samples_per_class: int = 4,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        require_group_size(self, samples_per_class=samples_per_class)
        self._images = ByClass(labels)
        self.samples_per_class = samples_per_class
        super().__init__(len(self._images), num_samples, num_replicas, rank, seed)

    @property
    def group(self) -> int:
        return self.samples_per_class

    def draw(self, total: int, generator: Generator) -> Iterator[Tensor]:
        return cut(self._cycles(generator), total)

    def _cycles(self, generator: Generator) -> Iterator[Tensor]:
        for images in class_cycles(self._images, self.samples_per_class, generator):
            yield images[torch.randperm(len(images), generator=generator)].flatten()
