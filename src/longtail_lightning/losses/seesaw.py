"""Seesaw loss (Wang et al. 2021)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import Self

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class SeesawLoss(LongTailLoss):
    r"""Cross-entropy in which each pair of classes has its own balance.

    **What it changes.** An image of a frequent class pushes rarer classes down less (mitigation), but a
    class that is wrongly ahead is pushed down more (compensation).

    **Formula.** \(-\log \frac{e^{z_y}}{e^{z_y} + \sum_{j \ne y} M_{yj} C_{yj} e^{z_j}}\) with
    \(M_{yj} = \min(1, n_j / n_y)^p\) and \(C_{yj} = \max(1, p_j / p_y)^q\), \(p_j\) the softmax. The factors
    are constants in the gradient.

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices. The factors belong to pairs of classes:
    there is no form for soft targets.

    **When it helps, when it hurts.** From instance segmentation with 1203 classes. With `online=True`
    it also follows a sampler that changes the class frequencies; with the counts of the data and a
    class-balanced sampler it corrects twice.

    **Classes without images** count as classes with one image.

    Args:
        class_counts: training images per class; with `online=True` the formula takes only their number.
        p: strength of the mitigation.
        q: strength of the compensation.
        eps: smallest \(p_y\) that the compensation divides by.
        online: count the labels seen in training so far, on all ranks together, instead of taking
            `class_counts`. Those counts are saved in checkpoints; evaluation mode does not count.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = SeesawLoss(class_counts=[160, 10], reduction="none")
        >>> [round(value, 3) for value in loss(torch.zeros(2, 2), torch.tensor([0, 1])).tolist()]
        [0.103, 0.693]

    **Paper.** Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, CVPR 2021, section 3.

    **Differences from the authors' code.** Theirs always counts online, on each rank for itself, with a
    loop over the labels; here counts come from the labels of the data unless `online`, and then from
    all ranks. The normalized linear layer of the paper is `CosineHead`.
    """

    accepts_soft_targets: ClassVar[bool] = False

    seen: Tensor
    """Labels seen in training, with `online=True`."""

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 0.01,
        online: bool = False,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "p", p, 0)
        require_number(self, "q", q, 0)
        require_number(self, "eps", eps, 0, 1, above=True)
        self.p = p
        self.q = q
        self.eps = eps
        self.online = online
        if class_counts is not None:
            self.bind_class_counts(class_counts)

    def bind_class_counts(self, class_counts: ClassCountsLike) -> Self:
        super().bind_class_counts(class_counts)
        # Binding the same classes again, as modules do before each fit, keeps what was counted.
        if self.online and getattr(self, "seen", self.bound_counts[:0]).shape != self.bound_counts.shape:
            self.register_buffer("seen", torch.zeros_like(self.bound_counts))
        return self

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        counts = self.bound_counts
        if self.online:
            if self.training:
                self.seen = self.seen + _labels_of_all_ranks(target, len(counts))
            counts = self.seen
        return functional.seesaw(logits, target, counts, p=self.p, q=self.q, eps=self.eps)


def _labels_of_all_ranks(target: Tensor, num_classes: int) -> Tensor:
    # Not bincount: the size of its result depends on the data, which breaks a compiled graph.
    counts = target.new_zeros(num_classes).scatter_add_(0, target, torch.ones_like(target))
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    return counts
