"""From instance-balanced to class-balanced, epoch by epoch (Decoupling, eq. 2)."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.samplers._base import Labels
from longtail_lightning.samplers._class_draws import ClassDrawSampler


class ProgressivelyBalancedSampler(ClassDrawSampler):
    r"""Mix instance-balanced and class-balanced sampling, with more of the latter in each epoch.

    **What it changes.** Training begins on the data as they are and ends with all classes alike.

    **Formula.** \(p_c(t) = (1 - \lambda_t)\, n_c / N + \lambda_t / C\), where C counts the classes with
    images. Epochs are counted from 0, as in Lightning, and epoch t of T uses \(\lambda_t = t / T\):
    the first is instance-balanced and the last has \((T - 1) / T\). With `endpoint=True`,
    \(\lambda_t = t / (T - 1)\): the last is class-balanced. Epochs after the last keep its mixture,
    but never more than \(\lambda = 1\).

    **Shapes.** labels `(N,)`; yields `ceil(num_samples / num_replicas)` indices per rank.

    **When it helps, when it hurts.** The best of the samplers when everything is trained at once
    (Decoupling, table 5); two stages, with the classifier re-trained, do better still.

    **Classes without images** are never drawn.

    Args:
        labels: class index of each image.
        epochs: number of epochs T of the whole training.
        endpoint: whether the last epoch is fully class-balanced, as in the authors' code.
        num_samples: images per epoch over all ranks; by default the size of the data set.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> sampler = ProgressivelyBalancedSampler([0, 0, 0, 1], epochs=4)
        >>> sampler.set_epoch(2)
        >>> sampler.balance, sampler.class_probabilities().tolist()
        (0.5, [0.625, 0.375])

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, eq. 2.

    **Differences from the authors' code.** Theirs spaces \(\lambda\) from 0 to 1 inclusive, so that T
    epochs take T - 1 steps (`endpoint=True`). It changes the weights at the end of an epoch and keeps
    them nowhere: a resumed run begins again with \(\lambda = 0\). Here the mixture follows from the epoch.
    """

    def __init__(
        self,
        labels: Labels,
        epochs: int,
        endpoint: bool = False,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, num_samples, num_replicas, rank, seed)
        if epochs < 1:
            raise LongTailError(f"epochs={epochs}: pass the number of epochs of the whole training, at least 1.")
        self.epochs = epochs
        self.endpoint = endpoint

    @property
    def balance(self) -> float:
        r"""The share \(\lambda\) of class-balanced sampling in this epoch."""
        last = self.epochs - 1
        return min(self.epoch, last) / max(1, last if self.endpoint else self.epochs)

    def class_probabilities(self) -> Tensor:
        counts = self._images.counts
        return (1 - self.balance) * counts.prior() + self.balance * counts.sampling_probabilities(0)
