"""Label-distribution-aware margins (Cao et al. 2019)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class LDAMLoss(LongTailLoss):
    r"""Cross-entropy in which each class must win by a margin, the rarer the class the larger.

    **What it changes.** The boundary moves away from the rare classes, whose few images say least about
    where they end.

    **Formula.** \(-\log \frac{e^{s (z_y - m_y)}}{e^{s (z_y - m_y)} + \sum_{j \ne y} e^{s z_j}}\) with
    \(m_c = m \, (n_{\min} / n_c)^{1/4}\).

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices. A margin belongs to one class: there is
    no form for soft targets.

    **When it helps, when it hurts.** Made for cosines, where 0.5 is a quarter of the range: use
    `CosineHead(scale=1.0, learnable_scale=False)` and let the loss scale. With a head that scales
    already (`CosineHead(scale=30.0)`), pass `scale=1.0, max_margin=15.0`. With a linear head pass
    `scale=1.0`: the margin then is one of raw logits, which can grow past it. The authors gain most
    together with `weighting="effective(0.9999)"` from epoch 160 of 200 on (DRW).

    **Classes without images** have the margin of a class with one image.

    Args:
        class_counts: training images per class.
        max_margin: \(m\), the margin of the rarest class, in units of the logits that come in.
        scale: \(s\), applied to logits and margin.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = LDAMLoss(class_counts=[160, 10], reduction="none")
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1])).tolist()
        [7.50..., 15.0...]

    **Paper.** Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
    NeurIPS 2019, the LDAM loss of section 3.

    **Differences from the authors' code.** None in the numbers without weighting; their deferred
    re-weighting divides by the weights of the batch, `normalize="weight_sum"`. Theirs runs on CUDA alone and masks the
    whole matrix of logits; here one logit per row is changed in place.
    """

    accepts_soft_targets: ClassVar[bool] = False

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "max_margin", max_margin, 0)
        require_number(self, "scale", scale, 0, above=True)
        self.max_margin = max_margin
        self.scale = scale

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.ldam(logits, target, self.bound_counts, max_margin=self.max_margin, scale=self.scale)
