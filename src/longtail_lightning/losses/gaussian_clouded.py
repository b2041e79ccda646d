"""Gaussian clouded logit adjustment (Li et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class GaussianCloudedLoss(LongTailLoss):
    r"""Cross-entropy of logits blurred by noise, the rarer the class the wider its cloud.

    **What it changes.** The softmax of a rare class saturates late: its few images act like a cloud of
    images and keep giving gradient, which pushes the other classes further away.

    **Formula.** \(-\log \frac{e^{s \hat z_y}}{\sum_j e^{s \hat z_j}}\) with
    \(\hat z_j = z_j - a \, |\varepsilon_j| \frac{\delta_j}{\max_c \delta_c}\), \(\delta_j = \log n_{\max} -
    \log n_j\) and \(\varepsilon_j \sim \mathcal N(0, \frac{1}{9})\) clipped to \([-1, 1]\), drawn for each
    sample and class.

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** Made for cosines: use `CosineHead(scale=1.0,
    learnable_scale=False)` and let the loss scale. The authors retrain the classifier afterwards with
    class-balanced sampling.

    **Classes without images** have the cloud of a class with one image. With equal counts there are no
    clouds.

    Args:
        class_counts: training images per class.
        strength: \(a\), the width of the widest cloud in units of the logits that come in; the authors use
            0.5 (CIFAR) and 1 (Places).
        scale: \(s\), applied after the noise.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = GaussianCloudedLoss(class_counts=[90, 10]).eval()
        >>> round(loss(torch.tensor([[1.0, 0.9]]), torch.tensor([0])).item(), 4)
        0.0486

    **Paper.** Li et al., Long-Tailed Visual Recognition via Gaussian Clouded Logit Adjustment, CVPR
    2022, section 3.

    **Differences from the authors' code.** None in stage 1. Their stage 2 adds a margin of 0.1
    and a focal factor, which are not part of this loss. In evaluation mode (`loss.eval()`)
    there is no noise, so that the validation loss does not depend on luck.
    """

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        strength: float = 0.5,
        scale: float = 30.0,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "strength", strength, 0)
        require_number(self, "scale", scale, 0, above=True)
        self.strength = strength
        self.scale = scale

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        noise = torch.randn_like(logits).div_(3).clamp_(-1, 1) if self.training else torch.zeros_like(logits)
        return functional.gaussian_clouded(
            logits, target, self.bound_counts, noise, strength=self.strength, scale=self.scale
        )
