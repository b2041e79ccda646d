"""What the classes of the nearest items say: a classifier without any training."""

from __future__ import annotations

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError

_TIE = 1e-6


def vote(labels: Tensor, scores: Tensor, num_classes: int) -> Tensor:
    r"""Log-probabilities of the classes by the share of each among the nearest items.

    With \(v_c\) of \(k\) neighbors in class \(c\): \(\log \frac{v_c + 1 / C}{k + 1}\). Of classes with as many
    neighbors the one with the larger sum of scores is ahead.

    Args:
        labels: `(queries, k)`: class of each neighbor.
        scores: `(queries, k)`: how near each is, as `Neighbors.scores`.
        num_classes: number of classes \(C\).

    Examples:
        >>> labels, scores = torch.tensor([[0, 2, 2], [1, 0, 2]]), torch.tensor([[0.9, 0.8, 0.7], [0.5, 0.9, 0.4]])
        >>> vote(labels, scores, num_classes=3).argmax(1).tolist()
        [2, 0]
    """
    if labels.shape != scores.shape or labels.ndim != 2:
        raise LongTailError(f"labels {tuple(labels.shape)} and scores {tuple(scores.shape)} are (queries, k) both.")
    near = scores.double()
    # Between 0 and 1, whatever the scores are: they decide between equal numbers alone.
    near = (near - near.amin(1, keepdim=True)) / (near.amax(1, keepdim=True) - near.amin(1, keepdim=True)).clamp(1e-12)
    votes = torch.full((len(labels), num_classes), 1 / num_classes, dtype=torch.float64)
    votes.scatter_add_(1, labels, 1 + _TIE * near)
    return (votes / votes.sum(1, keepdim=True)).log()
