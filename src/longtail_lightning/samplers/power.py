"""Draw classes with probability proportional to a power of their size (Decoupling, eq. 1)."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.samplers._base import Labels
from longtail_lightning.samplers._class_draws import ClassDrawSampler


class PowerSampler(ClassDrawSampler):
    r"""Draw a class with \(p_c \propto n_c^q\), then one of its images uniformly, with replacement.

    **What it changes.** How often each class is seen: from as the data is (`q=1`) over square-root
    sampling (`q=0.5`) to all classes alike (`q=0`).

    **Formula.** \(p_c = n_c^q / \sum_i n_i^q\); each image of class c has probability
    \(p_c / n_c\). All draws are independent; any number of images works (torch's multinomial ends
    at 2^24).

    **Shapes.** labels `(N,)`; yields `ceil(num_samples / num_replicas)` indices per rank.

    **When it helps, when it hurts.** `q=0` suits re-training a classifier on frozen features;
    for learning features it repeats tail images often and overfits them.

    **Classes without images** are never drawn.

    Args:
        labels: class index of each image.
        q: the power.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> sampler = PowerSampler([0] * 98 + [1] * 2, q=0)
        >>> drawn = list(sampler)
        >>> len(drawn), 30 < sum(index >= 98 for index in drawn) < 70
        (100, True)

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, eq. 1; square-root:
    Mahajan et al. 2018.

    **Differences from the authors' code.** Theirs draws from a priority tree in pure Python with
    the unseeded global generator and knows no ranks.
    """

    def __init__(
        self,
        labels: Labels,
        q: float = 0.5,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, num_samples, num_replicas, rank, seed)
        require_number(self, "q", q)
        self.q = q

    def class_probabilities(self) -> Tensor:
        return self._images.counts.sampling_probabilities(self.q)


class ClassBalancedSampler(PowerSampler):
    """All classes equally often: `PowerSampler` with `q=0`.

    **What it changes.** Each class is drawn with probability 1/C, whatever its size.

    **Formula.** See `PowerSampler`.

    **Shapes.** labels `(N,)`; yields `ceil(num_samples / num_replicas)` indices per rank.

    **When it helps, when it hurts.** The standard for classifier re-training (cRT, LWS).

    **Classes without images** are never drawn.

    Args:
        labels: class index of each image.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> sorted(set(ClassBalancedSampler([0, 0, 0, 1], num_samples=50)))
        [0, 1, 2, 3]

    **Paper.** Kang et al., ICLR 2020, section 3.1.

    **Differences from the authors' code.** See `PowerSampler`.
    """

    def __init__(
        self,
        labels: Labels,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, 0.0, num_samples, num_replicas, rank, seed)


class SquareRootSampler(PowerSampler):
    """Classes by the square root of their size: `PowerSampler` with `q=0.5`.

    **What it changes.** Halfway, on a log scale, between the data as they are and all classes alike.

    **Formula.** See `PowerSampler`.

    **Shapes.** labels `(N,)`; yields `ceil(num_samples / num_replicas)` indices per rank.

    **When it helps, when it hurts.** A mild re-balancing for training all weights at once.

    **Classes without images** are never drawn.

    Args:
        labels: class index of each image.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> len(list(SquareRootSampler([0, 0, 0, 1])))
        4

    **Paper.** Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining, ECCV 2018; Kang et al.,
    ICLR 2020, section 3.1.

    **Differences from the authors' code.** See `PowerSampler`.
    """

    def __init__(
        self,
        labels: Labels,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, 0.5, num_samples, num_replicas, rank, seed)
