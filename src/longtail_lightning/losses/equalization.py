"""Softmax equalization loss (Tan et al. 2020)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class EqualizationLoss(LongTailLoss):
    r"""Cross-entropy in which frequent images rarely push rare classes down.

    **What it changes.** A rare class is a negative in almost every batch. Here, as a negative, it is
    left out of the softmax most of the time, which spares it the discouraging gradients.

    **Formula.** \(-\log \frac{e^{z_y}}{\sum_j \tilde w_j e^{z_j}}\) with
    \(\tilde w_j = 1 - \beta_j \, \mathbf{1}[\pi_j < \lambda] \, \mathbf{1}[j \ne y]\) and
    \(\beta_j \sim \mathrm{Bernoulli}(\gamma)\), drawn for each sample and class.

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices.

    **When it helps, when it hurts.** With thousands of classes, many of them tiny. A rare class that is
    never pushed down is predicted too often: keep `gamma` below 1.

    **Classes without images** are rare and left out like the others.

    Args:
        class_counts: training images per class.
        gamma: how often a rare negative is left out.
        threshold: \(\lambda\), the training frequency below which a class is rare. The default is that of
            ImageNet-LT (about 50 images). On small sets no class is that rare and the loss is
            cross-entropy: for CIFAR-100-LT, public ports use 3e-3 or 5e-3.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = EqualizationLoss(class_counts=[9999, 1], gamma=1.0)
        >>> loss(torch.zeros(1, 2), torch.tensor([0])).item()
        0.0

    **Paper.** Tan et al., Equalization Loss for Long-Tailed Object Recognition, CVPR 2020, the softmax
    equalization loss.

    **Differences from the authors' code.** Left-out logits are minus infinity instead of -1e7, the
    number of classes is not built in, and in evaluation mode (`loss.eval()`) nothing is left out, so
    that the validation loss does not depend on luck: it is cross-entropy.
    """

    accepts_soft_targets: ClassVar[bool] = False

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        gamma: float = 0.9,
        threshold: float = 4.3e-4,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "gamma", gamma, 0, 1)
        require_number(self, "threshold", threshold, 0)
        self.gamma = gamma
        self.threshold = threshold

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        chance = self.gamma if self.training else 0.0
        drawn = torch.rand_like(logits) < chance
        return functional.equalization(logits, target, self.bound_counts, drawn, threshold=self.threshold)
