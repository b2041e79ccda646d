"""Label distribution disentangling (Hong et al. 2021)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction
from longtail_lightning.losses._gather import gather


class LADELoss(LongTailLoss):
    r"""Balanced softmax with a regularizer that makes each logit a log density ratio.

    **What it changes.** The logits are pushed to be right under a uniform label distribution by
    themselves, so that any test prior can be added to them afterwards.

    **Formula.** \(-\log \frac{\pi_y e^{z_y}}{\sum_j \pi_j e^{z_j}} + \alpha \sum_c \pi_c \left(
    -\bar z_c + Z_c + \lambda Z_c^2 \right)\), where \(\bar z_c\) is the mean of \(z_c\) over the images
    of class c in the batch and \(Z_c = \log \frac{1}{B} \sum_i \frac{1}{C \pi_c} e^{z_{ic}}\).

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices. The class means have no form for soft
    targets.

    **When it helps, when it hurts.** When the test prior is known or shifts. The regularizer is one
    number for the batch, added to every sample's loss; it is estimated from the batch alone, so small
    batches, ranks and accumulation steps change it: the only loss here whose gradients on several ranks
    are not those of one.

    **Classes without images** have \(\pi_c = 0\) and drop out of the regularizer; a class that is only
    absent from the batch keeps its second term.

    Args:
        class_counts: training images per class.
        alpha: weight of the regularizer; the authors use 0.1 (CIFAR), 0.005 (Places) and 0.05
            (ImageNet-LT, iNaturalist).
        lam: \(\lambda\), keeps the logits from drifting; the authors use 0.01 (CIFAR), 0.1 (Places), 0.5
            (ImageNet-LT, iNaturalist).
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = LADELoss(class_counts=[90, 10], alpha=0.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([1])).item(), 3)
        2.303

    **Paper.** Hong et al., Disentangling Label Distribution for Long-Tailed Visual Recognition, CVPR
    2021, eq. 16, 19 and 20.

    **Differences from the authors' code.** None: \(Z_c\) divides by the prior of class c for every image,
    as the code does, and not by that of the image's own label, as importance sampling would. Under DDP
    theirs estimates the bound on each rank's rows; here, in training, on those of all ranks.
    """

    accepts_soft_targets: ClassVar[bool] = False

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        alpha: float = 0.1,
        lam: float = 0.01,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "alpha", alpha, 0)
        require_number(self, "lam", lam, 0)
        self.alpha = alpha
        self.lam = lam

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        # Ranks may hold unequal numbers of batches in evaluation: there each keeps to its own rows.
        batch = (gather(logits), gather(target)) if self.training else None
        return functional.lade(logits, target, self.bound_counts, alpha=self.alpha, lam=self.lam, batch=batch)
