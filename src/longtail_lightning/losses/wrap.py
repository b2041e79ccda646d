"""Adapter for losses from elsewhere."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class WrapLoss(LongTailLoss):
    """Use any `nn.Module` loss wherever a `LongTailLoss` is expected.

    **What it changes.** Nothing in the loss: it is called as `loss(logits, target)` with float32
    logits. When it has a `bind_class_counts` method, it gets the counts too.

    **Formula.** That of the wrapped loss.

    **Shapes.** logits `(batch, C)`; target as the wrapped loss takes it.

    **When it helps, when it hurts.** For your own loss in a YAML file. In Python the modules wrap a
    plain `nn.Module` by themselves.

    **Classes without images** are the wrapped loss's business.

    Args:
        loss: the loss to call.
        class_counts: handed on to a wrapped loss that has `bind_class_counts`.
        weighting: re-weighting of the samples by class, see `LongTailLoss`; the wrapped loss must
            return one value per sample.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: applied only when the wrapped loss returns one value per sample.

    Examples:
        >>> import torch
        >>> loss = WrapLoss(torch.nn.MultiMarginLoss())
        >>> round(loss(torch.tensor([[2.0, 1.5]]), torch.tensor([0])).item(), 3)
        0.25

    **Paper.** None.

    **Differences from the authors' code.** None.
    """

    needs_class_counts: ClassVar[bool] = False

    def __init__(
        self,
        loss: nn.Module,
        class_counts: ClassCountsLike | None = None,
        *,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weighting=weighting, normalize=normalize, reduction=reduction)
        self.loss = loss
        if class_counts is not None:
            self.bind_class_counts(class_counts)

    def bind_class_counts(self, class_counts: ClassCountsLike) -> WrapLoss:
        bind = getattr(self.loss, "bind_class_counts", None)
        if bind is not None:
            bind(class_counts)
        return super().bind_class_counts(class_counts)

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        result: Tensor = self.loss(logits, target)
        return result
