"""The tail as often as the data have the head (BBN)."""

from __future__ import annotations

from longtail_lightning.samplers._base import Labels
from longtail_lightning.samplers.power import PowerSampler


class ReversedSampler(PowerSampler):
    r"""Draw classes by the inverse of their size: `PowerSampler` with `q=-1`.

    **What it changes.** The order of the classes is turned around: the rarest is drawn most often.

    **Formula.** \(P_c = w_c / \sum_j w_j\) with \(w_c = N_{\max} / N_c\), then one image of the class
    uniformly.

    **Shapes.** labels `(N,)`; yields `ceil(num_samples / num_replicas)` indices per rank.

    **When it helps, when it hurts.** For the re-balancing branch of a two-branch network, beside
    another that learns from the data as they are. Alone it unlearns the head.

    **Classes without images** are never drawn.

    Args:
        labels: class index of each image.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> ReversedSampler([0, 0, 0, 1]).class_probabilities().tolist()
        [0.25, 0.75]

    **Paper.** Zhou et al., BBN: Bilateral-Branch Network, CVPR 2020, section 4.2.

    **Differences from the authors' code.** Theirs searches the classes in a Python loop inside the data
    set, with the unseeded global generator of each worker.
    """

    def __init__(
        self,
        labels: Labels,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, -1.0, num_samples, num_replicas, rank, seed)
