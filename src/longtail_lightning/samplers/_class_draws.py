"""Samplers that are nothing but a probability per class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from longtail_lightning.samplers._base import PIECE, Labels, LongTailSampler
from longtail_lightning.samplers._by_class import ByClass


class ClassDrawSampler(LongTailSampler):
    """Draw a class from `class_probabilities`, then one of its images uniformly, with replacement.

    Every draw takes the same time however many classes there are (an alias table), and the numbers
    are in double precision, so any number of images works (torch's multinomial ends at 2^24).

    Args:
        labels: class index of each image.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
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
        self._images = ByClass(labels)
        super().__init__(len(self._images), num_samples, num_replicas, rank, seed)

    @abstractmethod
    def class_probabilities(self) -> Tensor:
        """How often each class is drawn in this epoch: `(num_classes,)`, float64, 0 for a class without images."""

    def draw(self, total: int, generator: Generator) -> Iterator[Tensor]:
        images = self._images
        keep, alias = alias_table(self.class_probabilities()[images.classes])
        # Cells 0..C-1 hold a class each; its alias sits C further on.
        classes = torch.cat([torch.arange(len(alias)), alias])
        first, sizes = images.first[classes], images.sizes[classes].double()
        for start in range(0, total, PIECE):
            which, within = torch.rand(2, PIECE, generator=generator, dtype=torch.float64)[:, : total - start]
            which = which * len(keep)
            cell = which.long()
            cell += (which.frac_() >= keep.index_select(0, cell)) * len(keep)
            # In double precision a number below 1 times a size stays below the size.
            place = (within * sizes.index_select(0, cell)).long()
            yield images.order.index_select(0, place.add_(first.index_select(0, cell)))


def alias_table(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Walker's alias method: cell i is i with probability `keep[i]`, otherwise `alias[i]`.

    With C cells of height 1, classes below the mean height leave a gap that classes above it fill,
    one after the other. Running sums of gaps and of surplus say which one fills which gap, so no
    loop over the classes is needed.

    Args:
        probabilities: `(C,)`, positive, sum 1.

    Examples:
        >>> keep, alias = alias_table(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64))
        >>> keep.tolist(), alias.tolist()
        ([1.0, 0.75, 0.75], [0, 0, 0])
    """
    height = probabilities * len(probabilities)
    low, high = (height < 1).nonzero().flatten(), (height >= 1).nonzero().flatten()
    keep, alias = height.clamp(max=1.0), torch.arange(len(height))
    if len(low) == 0 or len(high) == 0:  # all alike, up to rounding
        return torch.ones_like(keep), alias
    gaps = torch.cat([height.new_zeros(1), (1 - height[low]).cumsum(0)])
    surplus = (height[high] - 1).cumsum(0)
    # A gap is filled by the class whose surplus is not used up by the gaps before it.
    filler = torch.searchsorted(surplus, gaps[:-1], right=True).clamp(max=len(high) - 1)
    alias[low] = high[filler]
    # The gap that overdraws a surplus leaves a gap in that class itself, which the next one fills;
    # the last surplus is overdrawn by rounding only.
    overdraws = torch.searchsorted(gaps, surplus[:-1]).clamp(max=len(low))
    keep[high[:-1]] = (1 + surplus[:-1] - gaps[overdraws]).clamp(0.0, 1.0)
    alias[high[:-1]] = high[1:]
    return keep, alias
