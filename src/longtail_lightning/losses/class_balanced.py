"""Class-balanced loss (Cui et al. 2019)."""

from __future__ import annotations

from typing import ClassVar

from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses._base import Normalize, Reduction
from longtail_lightning.losses.focal import FocalLoss


class ClassBalancedLoss(FocalLoss):
    r"""Cross-entropy or focal loss, each class weighted by its effective number of images.

    **What it changes.** Images of one class overlap, so a thousand of them say less than a thousand
    times as much as one: the weights grow more slowly than inverse frequency.

    **Formula.** \(-\frac{1 - \beta}{1 - \beta^{n_y}} (1 - p_y)^\gamma \log p_y\), the weights scaled
    as `normalize` says.

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** From the first epoch on it harms the features; switched on late
    (DRW) it helps. It is `FocalLoss(weighting="effective(BETA)", normalize="batch")` by the name of
    the paper.

    **Classes without images** weigh as much as a class with one image.

    Args:
        class_counts: training images per class.
        beta: 0.9, 0.99, 0.999 or 0.9999: about \(1 / (1 - \beta)\) images say all there is to say.
        gamma: 0 for cross-entropy; 0.5, 1 or 2 for the focal loss.
        normalize: scale of the weights, see `LongTailLoss`; the paper's is `"batch"`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = ClassBalancedLoss(class_counts=[90, 10], reduction="none")
        >>> [round(value, 3) for value in loss(torch.zeros(2, 2), torch.tensor([0, 1])).tolist()]
        [0.139, 1.247]

    **Paper.** Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, section 4.

    **Differences from the authors' code.** None for `gamma=0`. Their focal loss sums binary losses over
    the classes; this one is the softmax form. A widespread PyTorch port calls a binary cross-entropy of
    softmax probabilities "softmax"; that is not theirs.
    """

    needs_class_counts: ClassVar[bool] = True

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        beta: float = 0.9999,
        gamma: float = 0.0,
        normalize: Normalize = "batch",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            class_counts, gamma=gamma, weighting=f"effective({beta})", normalize=normalize, reduction=reduction
        )
        self.beta = beta
