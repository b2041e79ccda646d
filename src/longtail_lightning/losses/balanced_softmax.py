"""Balanced softmax (Ren et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class BalancedSoftmaxLoss(LongTailLoss):
    r"""Cross-entropy whose softmax weighs each class by its number of training images.

    **What it changes.** Corrects the softmax for the shift between a long-tailed training set and a
    balanced test set. Equal to `LogitAdjustedLoss(tau=1)`: log counts and log priors differ by a
    constant, which a softmax does not see.

    **Formula.** \(-\log \frac{n_y e^{z_y}}{\sum_j n_j e^{z_j}}\).

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** See `LogitAdjustedLoss`, which adds the strength `tau`.

    **Classes without images** weigh as much as a class with one image, so the loss stays finite.

    Args:
        class_counts: training images per class.
        label_smoothing: as in `CrossEntropyLoss`.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = BalancedSoftmaxLoss(class_counts=[90, 10])
        >>> round(loss(torch.zeros(1, 2), torch.tensor([1])).item(), 3)
        2.303

    **Paper.** Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, eq. 4.

    **Differences from the authors' code.** A class without images gives infinity there. The
    meta-sampler of the paper is not part of this loss.
    """

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        label_smoothing: float = 0.0,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.balanced_softmax(logits, target, self.bound_counts, label_smoothing=self.label_smoothing)
