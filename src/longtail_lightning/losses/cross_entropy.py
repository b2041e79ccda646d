"""Softmax cross-entropy, the baseline."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class CrossEntropyLoss(LongTailLoss):
    r"""Softmax cross-entropy: the baseline that each long-tail method is compared with.

    **What it changes.** Nothing. Trained on a long tail, its decision boundaries favor the head.

    **Formula.** \(-\log \frac{e^{z_y}}{\sum_j e^{z_j}}\), with label smoothing \(\epsilon\) toward
    \((1-\epsilon)\,\mathbf{1}_y + \epsilon / C\).

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** As stage 1 of decoupled training it learns the best features;
    as the only stage it loses the few-shot classes.

    **Classes without images** are ordinary negatives. A class that is masked by minus infinity is impossible; label
    smoothing, which gives every class a share, makes the loss infinite then, as in torch.

    Args:
        class_counts: used by `weighting` only.
        label_smoothing: \(\epsilon\), from 0 to 1.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = CrossEntropyLoss()
        >>> round(loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).item(), 4)
        0.1269

    **Paper.** The baseline of Kang et al., Decoupling Representation and Classifier for
    Long-Tailed Recognition, ICLR 2020.

    **Differences from the authors' code.** None.
    """

    needs_class_counts: ClassVar[bool] = False

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
        return functional.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
