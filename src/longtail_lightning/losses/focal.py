"""Focal loss (Lin et al. 2017), the softmax form."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class FocalLoss(LongTailLoss):
    r"""Cross-entropy that fades as a sample becomes easy.

    **What it changes.** Well-classified samples, most of them from head classes, lose their hold on the
    gradient.

    **Formula.** \(-(1 - p_y)^\gamma \log p_y\) with \(p = \mathrm{softmax}(z)\). A soft target takes the
    mean of the formula over its classes.

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** It looks at difficulty, not at frequency, and alone gains little
    on a long tail; combine it with `weighting`, or see `ClassBalancedLoss`. Label noise is hard, too:
    a large `gamma` learns it.

    **Classes without images** are ordinary negatives.

    Args:
        class_counts: used by `weighting` only.
        gamma: how fast easy samples fade; 0 is cross-entropy.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = FocalLoss(gamma=2.0)
        >>> round(loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).item(), 5)
        0.0018

    **Paper.** Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4 (5 with `weighting`).

    **Differences from the authors' code.** The paper sums binary losses; this is the softmax form of
    the long-tail literature. Its public ports take \(p_y\) from the already weighted loss, which is no
    probability; here it comes from the unweighted one.
    """

    needs_class_counts: ClassVar[bool] = False

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        gamma: float = 2.0,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "gamma", gamma, 0)
        self.gamma = gamma

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.focal(logits, target, gamma=self.gamma)
