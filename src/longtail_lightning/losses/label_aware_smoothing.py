"""Label-aware smoothing (Zhong et al. 2021)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class LabelAwareSmoothingLoss(LongTailLoss):
    r"""Label smoothing that is strong for head classes and weak for tail classes.

    **What it changes.** Networks are over-confident on head classes most of all; those get the softer
    labels, which calibrates the model and frees margin for the tail.

    **Formula.** \(-(1 - \epsilon_y) \log p_y - \frac{\epsilon_y}{C - 1} \sum_{j \ne y} \log p_j\) with
    \(\epsilon_c = \epsilon_{tail} + (\epsilon_{head} - \epsilon_{tail}) \, f(r_c)\) and
    \(r_c = \frac{n_c - n_{\min}}{n_{\max} - n_{\min}}\). \(f\) is \(\sin \frac{\pi r}{2}\) (concave), \(r\)
    (linear) or \(1 - \cos \frac{\pi r}{2}\) (convex). A soft target takes the mean over its classes.

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** In stage 2, on a classifier that is retrained with class-balanced
    sampling; there it repairs both accuracy and calibration.

    **Classes without images** are the rarest ones and get `tail`. With equal counts all classes do.

    Args:
        class_counts: training images per class.
        head: smoothing of the most frequent class; the authors use 0.1 to 0.4.
        tail: smoothing of the rarest class; the authors use 0 or 0.1.
        shape: how smoothing grows in between: `"concave"`, `"linear"` or `"convex"`.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = LabelAwareSmoothingLoss(class_counts=[90, 10], head=0.4, reduction="none")
        >>> [round(value, 3) for value in loss(torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])).tolist()]
        [1.249, 0.049]

    **Paper.** Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021, section 3.2.

    **Differences from the authors' code.** The code spreads \(\epsilon_y\) over all C classes, the
    target among them; this follows the paper, which spreads it over the other C - 1.
    """

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        head: float = 0.3,
        tail: float = 0.0,
        shape: Literal["concave", "linear", "convex"] = "concave",
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        if shape not in ("concave", "linear", "convex"):
            raise LongTailError(f"Unknown shape {shape!r}: choose 'concave', 'linear' or 'convex'.")
        require_number(self, "head", head, 0, 1)
        require_number(self, "tail", tail, 0, 1)
        self.head = head
        self.tail = tail
        self.shape: Literal["concave", "linear", "convex"] = shape

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.label_aware_smoothing(
            logits, target, self.bound_counts, head=self.head, tail=self.tail, shape=self.shape
        )
