"""Distribution-balanced loss for several labels per image (Wu et al. 2020)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Reduction


class DistributionBalancedLoss(LongTailLoss):
    r"""Binary cross-entropy for multi-label images, balanced for co-occurring labels.

    **What it changes.** Drawing rare labels more often also draws the frequent labels that come with
    them; a weight per image and label takes that out. And a label that is absent, as most are, stops
    pushing once its logit is low enough.

    **Formula.** \(\frac{1}{C} \sum_c \hat r_c \left[ t_c \log(1 + e^{-(z_c - \nu_c)}) + \frac{1}{\lambda} (1 -
    t_c) \log(1 + e^{\lambda (z_c - \nu_c)}) \right]\) with \(\nu_c = \kappa \log(N / n_c - 1)\),
    \(\hat r_c = \alpha + \sigma(\beta (r_c - \mu))\) and \(r_c = \frac{1 / n_c}{\sum_{j: t_j = 1} 1 / n_j}\).

    **Shapes.** logits `(batch, C)`; target `(batch, C)` multi-hot, of any type. Several labels per image
    are no class to weight by: `weighting` is refused.

    **When it helps, when it hurts.** Made for class-aware sampling of images with several labels. For
    one label per image use the softmax losses.

    **Classes without images** count as classes with one image. An image without labels gets the largest
    weight, \(\alpha + 1\), as all its ratios are infinite.

    Args:
        class_counts: training images per class; an image counts once for each of its labels.
        num_images: \(N\), the number of training images. Without it the sum of the counts is taken, which
            is too large when images have several labels.
        alpha: smallest weight.
        beta: steepness of the weight.
        mu: ratio at which the weight is halfway; the authors use 0.2 (COCO) and 0.3 (VOC).
        lam: \(\lambda\), how fast negatives are let go; the authors use 2 (COCO) and 5 (VOC).
        kappa: strength of the class bias \(\nu\); `0.05 / lam` reproduces the authors' code.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = DistributionBalancedLoss(class_counts=[90, 30, 10], num_images=100)
        >>> round(loss(torch.zeros(1, 3), torch.tensor([[1, 0, 1]])).item(), 3)
        0.444

    **Paper.** Wu et al., Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed
    Datasets, ECCV 2020, section 3.

    **Differences from the authors' code.** The code also divides \(\nu\) by \(\lambda\), which the
    authors call a mistake, and both released configurations add a focal factor; this is the paper's
    formula.
    """

    multi_label: ClassVar[bool] = True

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        num_images: int | None = None,
        alpha: float = 0.1,
        beta: float = 10.0,
        mu: float = 0.2,
        lam: float = 2.0,
        kappa: float = 0.05,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, reduction=reduction)
        if num_images is not None:
            require_number(self, "num_images", num_images, 1)
        require_number(self, "alpha", alpha, 0)
        require_number(self, "beta", beta)
        require_number(self, "mu", mu)
        require_number(self, "lam", lam, 0, above=True)
        require_number(self, "kappa", kappa)
        self.num_images = num_images
        self.alpha = alpha
        self.beta = beta
        self.mu = mu
        self.lam = lam
        self.kappa = kappa

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.distribution_balanced(
            logits,
            target,
            self.bound_counts,
            num_images=self.num_images,
            alpha=self.alpha,
            beta=self.beta,
            mu=self.mu,
            lam=self.lam,
            kappa=self.kappa,
        )
