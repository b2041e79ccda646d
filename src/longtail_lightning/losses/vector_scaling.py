"""Vector scaling loss (Kini et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class VectorScalingLoss(LongTailLoss):
    r"""Cross-entropy of logits that are both scaled and shifted by class frequency.

    **What it changes.** The shift works early in training, as in `LogitAdjustedLoss`; once the training
    set is fitted only the scale still moves the boundary, and it favors the rare classes.

    **Formula.** \(-\log \frac{e^{\Delta_y z_y + \iota_y}}{\sum_j e^{\Delta_j z_j + \iota_j}}\) with
    \(\Delta_c = (n_c / n_{\max})^\gamma\) and \(\iota_c = \tau \log \pi_c\).

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** For networks trained to zero training error. Unlike the other
    losses it sees a constant added to all logits; predictions still come from the plain logits.

    **Classes without images** count as classes with one image.

    Args:
        class_counts: training images per class.
        gamma: strength of the scale; 0 is `LogitAdjustedLoss`.
        tau: strength of the shift.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = VectorScalingLoss(class_counts=[90, 10], gamma=0.0, tau=1.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([1])).item(), 3)
        2.303

    **Paper.** Kini et al., Label-Imbalanced and Group-Sensitive Classification under
    Overparameterization, NeurIPS 2021, the VS-loss; whose code uses other defaults (gamma 0.3, tau 1).

    **Differences from the authors' code.** The weights \(\omega_y\) are `weighting`, off by default.
    """

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        gamma: float = 0.15,
        tau: float = 1.25,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "gamma", gamma, 0)
        require_number(self, "tau", tau)
        self.gamma = gamma
        self.tau = tau

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.vector_scaling(logits, target, self.bound_counts, gamma=self.gamma, tau=self.tau)
