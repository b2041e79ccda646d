"""What every loss shares: bound class counts, checks, float32 inside autocast, reduction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, ClassCountsLike

Reduction = Literal["mean", "sum", "none"]


class LongTailLoss(nn.Module, ABC):
    """Base of all losses: `Loss(class_counts=None, *, ...)(logits, target) -> Tensor`.

    A child writes `compute`, the formula. This class does the rest: the class counts live in an
    integer buffer that is not saved (they belong to the data, and integers survive `.half()`),
    logits of half precision are computed in float32, and wrong input ends in one sentence.

    Args:
        class_counts: training images per class; may be bound later with `bind_class_counts`.
        reduction: `"mean"` or `"sum"` over the batch, or `"none"` for one value per sample.
    """

    needs_class_counts: ClassVar[bool] = True
    """Whether the formula uses the counts; if not, the loss works unbound."""

    accepts_soft_targets: ClassVar[bool] = True
    """Whether `target` may be class probabilities (mixup, cutmix)."""

    class_counts: Tensor | None

    def __init__(self, class_counts: ClassCountsLike | None = None, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise LongTailError(f"Unknown reduction {reduction!r}: choose 'mean', 'sum' or 'none'.")
        self.reduction = reduction
        self.register_buffer("class_counts", None, persistent=False)
        if class_counts is not None:
            self.bind_class_counts(class_counts)

    def bind_class_counts(self, class_counts: ClassCountsLike) -> Self:
        """Give the loss its class counts; the LightningModules call this for you."""
        self.class_counts = ClassCounts(class_counts).tensor
        return self

    @abstractmethod
    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """The formula: one value per sample, from checked logits in float32 or float64."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: `(batch, num_classes)`, any floating type.
            target: `(batch,)` class indices, or `(batch, num_classes)` class probabilities.
        """
        self._check(logits, target)
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float()
            target = target.to(logits.dtype) if target.is_floating_point() else target.long()
            losses = self.compute(logits, target)
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    @property
    def bound_counts(self) -> Tensor:
        """The class counts, for `compute` of a loss that needs them."""
        assert self.class_counts is not None  # `_check` has run
        return self.class_counts

    def _check(self, logits: Tensor, target: Tensor) -> None:
        name = type(self).__name__
        if self.class_counts is None and self.needs_class_counts:
            raise LongTailError(
                f"{name} needs class_counts: pass {name}(class_counts=...), call bind_class_counts(...), "
                "or let a LightningModule of this library bind them."
            )
        if logits.ndim != 2:
            raise LongTailError(f"{name} expects logits of shape (batch, num_classes), got {tuple(logits.shape)}.")
        num_classes = logits.shape[1]
        if self.class_counts is not None and self.class_counts.numel() != num_classes:
            raise LongTailError(
                f"{name} has class_counts of {self.class_counts.numel()} classes but the logits have {num_classes}: "
                "the head's num_classes and class_counts must agree."
            )
        if target.is_floating_point():
            if not self.accepts_soft_targets:
                raise LongTailError(
                    f"{name} has no form for soft targets: pass class indices, or turn mixup and cutmix off."
                )
            if target.shape != logits.shape:
                raise LongTailError(
                    f"{name} expects soft targets of shape {tuple(logits.shape)}, got {tuple(target.shape)}."
                )
        elif target.shape != logits.shape[:1]:
            raise LongTailError(
                f"{name} expects one class index per sample, shape ({logits.shape[0]},), got {tuple(target.shape)}."
            )
        elif target.device.type == "cpu" and not torch.compiler.is_compiling() and target.numel():
            # On an accelerator this look would wait for the device at every step.
            low, high = int(target.min()), int(target.max())
            if low < 0 or high >= num_classes:
                raise LongTailError(
                    f"{name} got the label {low if low < 0 else high}, outside 0..{num_classes - 1}: "
                    "number the classes from 0, or check num_classes."
                )
