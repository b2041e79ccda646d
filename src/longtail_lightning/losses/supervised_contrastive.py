"""Supervised contrastive loss (Khosla et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import Reduction, checked_reduction, in_full_precision, reduce
from longtail_lightning.losses._gather import gather, my_rank


class SupervisedContrastiveLoss(nn.Module):
    r"""Pull images of one class together and push all others away.

    **What it changes.** Trains the features alone, without a classifier, so that no classifier's
    bias toward the head shapes them.

    **Formula.** \(-\frac{1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{v_i \cdot v_p / T}}{\sum_{a \ne i}
    e^{v_i \cdot v_a / T}}\) with normalized features \(v\) and the other images \(P(i)\) of the
    class of i. An image without another of its class has loss 0 and still counts in the mean.

    **Shapes.** features `(batch, D)` or `(batch, views, D)`; target `(batch,)` indices. In a process
    group the other images are those of all ranks, with gradients, and gradients averaged over the
    ranks are those of one process with the large batch; ranks need batches of one size.

    **When it helps, when it hurts.** As stage 1 before a classifier is retrained. Rare classes seldom
    meet a second image in a batch: use two views, large batches or a class-aware sampler, else they
    are only ever pushed away. See `ParametricContrastiveLoss`.

    **Classes without images** do not enter.

    Args:
        temperature: \(T\); small values look at the nearest images only.
        reduction: `"mean"`, `"sum"` or `"none"` for one value per image and view.

    Examples:
        >>> import torch
        >>> loss = SupervisedContrastiveLoss(temperature=1.0)
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(loss(features, torch.tensor([0, 0, 1])).item(), 4)
        0.2088

    **Paper.** Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2.

    **Differences from the authors' code.** Theirs multiplies by the ratio of two temperatures, and
    in its older versions gives NaN for an image without positives.
    """

    def __init__(self, *, temperature: float = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        require_number(self, "temperature", temperature, 0, above=True)
        self.temperature = temperature
        self.reduction: Reduction = checked_reduction(reduction)

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch of features."""
        if features.ndim not in (2, 3) or target.shape != features.shape[:1] or target.is_floating_point():
            raise LongTailError(
                "SupervisedContrastiveLoss expects features (batch, D) or (batch, views, D) and one class index per "
                f"image, got {tuple(features.shape)} and {target.dtype} {tuple(target.shape)}: pass "
                "class indices, and turn mixup and cutmix off."
            )
        with torch.autocast(features.device.type, enabled=False):
            views = F.normalize(in_full_precision(features), dim=-1)
            if views.ndim == 3:
                target = target.repeat_interleave(views.shape[1])
                views = views.flatten(0, 1)
            itself = my_rank() * len(views) + torch.arange(len(views), device=views.device)
            losses = functional.supervised_contrastive(
                views, target, gather(views), gather(target), itself, temperature=self.temperature
            )
        return reduce(losses, self.reduction)
