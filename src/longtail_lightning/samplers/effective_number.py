"""Draw each image with the weight that the class-balanced loss would give it."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning.samplers._base import Labels
from longtail_lightning.samplers._class_draws import ClassDrawSampler


class EffectiveNumberSampler(ClassDrawSampler):
    r"""Draw an image of class c with weight \(1 / E_c\), one over the effective number of its class.

    **What it changes.** What `ClassBalancedLoss` does with weights, this does with repetition. From
    the data as they are (`beta=0`) to all classes alike (`beta=1`). Between them, classes with far
    fewer than \(1 / (1 - \beta)\) images are drawn equally often, those with far more by their size.

    **Formula.** \(p_c \propto n_c / E_c\) with \(E_c = (1 - \beta^{n_c}) / (1 - \beta)\); each image of
    class c has probability \(p_c / n_c \propto 1 / E_c\).

    **Shapes.** labels `(N,)`; yields `ceil(num_samples / num_replicas)` indices per rank.

    **When it helps, when it hurts.** As the second stage of deferred re-sampling; from the first epoch
    on it repeats tail images often and overfits them. The usual `beta=0.9999` is all but class-balanced
    unless classes have thousands of images.

    **Classes without images** are never drawn.

    Args:
        labels: class index of each image.
        beta: from 0 to 1; the papers use 0.9 to 0.9999.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> EffectiveNumberSampler([0] * 6 + [1] * 2, beta=0.0).class_probabilities().tolist()
        [0.75, 0.25]
        >>> EffectiveNumberSampler([0] * 6 + [1] * 2, beta=1.0).class_probabilities().tolist()
        [0.5, 0.5]

    **Paper.** Effective number: Cui et al., Class-Balanced Loss, CVPR 2019, eq. 2; as a sampler: Cao et al., LDAM,
    NeurIPS 2019, section 4.

    **Differences from the authors' code.** LDAM's code weighs the images as here and draws with
    torch's multinomial, which ends at 2^24 images; its trainer never gives that sampler to the loader.
    """

    def __init__(
        self,
        labels: Labels,
        beta: float = 0.9999,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, num_samples, num_replicas, rank, seed)
        self._images.counts.effective_number(beta)  # checks beta
        self.beta = beta

    def class_probabilities(self) -> Tensor:
        counts = self._images.counts
        weights = counts.tensor / counts.effective_number(self.beta).clamp(min=1.0)
        return weights / weights.sum()
