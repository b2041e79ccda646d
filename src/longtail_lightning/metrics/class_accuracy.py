"""Accuracy of each class, and their mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole


class ClassAccuracy(Metric):
    """Counts right answers and images per class; a child says what `compute` returns.

    An image whose logits hold a NaN, or are all minus infinity, counts as a wrong answer, and `compute` warns of it.

    Args:
        num_classes: number of classes.
        top_k: an answer is right when the class is among the k highest logits.
    """

    is_differentiable: bool = False
    higher_is_better: bool = True
    full_state_update: bool = False

    not_a_number: Tensor
    correct: Tensor
    support: Tensor

    def __init__(self, num_classes: int, top_k: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_whole(self, "num_classes", num_classes, 1)
        require_whole(self, "top_k", top_k)
        if not 1 <= top_k <= num_classes:
            raise LongTailError(f"top_k={top_k} must lie between 1 and the number of classes, {num_classes}.")
        self.num_classes = num_classes
        self.top_k = top_k
        self.add_state("not_a_number", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("support", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits_or_preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            logits_or_preds: `(batch, num_classes)` logits or probabilities, or `(batch,)` predicted classes.
            target: `(batch,)` true classes.
        """
        check_batch(type(self).__name__, logits_or_preds, target, self.num_classes)
        if logits_or_preds.ndim == 1:
            if self.top_k > 1:
                raise LongTailError(f"{type(self).__name__}(top_k={self.top_k}) needs logits, got predicted classes.")
            right = logits_or_preds == target
        else:
            nan = no_answer(logits_or_preds)
            self.not_a_number += nan.sum()
            best = logits_or_preds.argmax(1, keepdim=True)
            if self.top_k > 1:
                best = logits_or_preds.topk(self.top_k, dim=1).indices
            right = (best == target[:, None]).any(1) & ~nan
        self.support += torch.bincount(target, minlength=self.num_classes)
        self.correct += torch.bincount(target[right], minlength=self.num_classes)

    def per_class(self) -> Tensor:
        """Accuracy of each class; NaN for a class that had no image."""
        warn_of_nan(self.not_a_number, self.support.sum())
        return torch.where(self.support > 0, self.correct / self.support, torch.nan)


class PerClassAccuracy(ClassAccuracy):
    """Accuracy of each class; NaN, not 0, for a class without test images.

    Args:
        num_classes: number of classes.
        top_k: an answer is right when the class is among the k highest logits.

    Examples:
        >>> metric = PerClassAccuracy(num_classes=3)
        >>> metric.update(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
        >>> metric.compute()
        tensor([0.5000, 1.0000,    nan])
    """

    def compute(self) -> Tensor:
        """One value per class."""
        return self.per_class()


class BalancedAccuracy(ClassAccuracy):
    """Mean of the per-class accuracies over the classes that have test images.

    Args:
        num_classes: number of classes.
        top_k: an answer is right when the class is among the k highest logits.

    Examples:
        >>> metric = BalancedAccuracy(num_classes=3)
        >>> metric.update(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
        >>> metric.compute()
        tensor(0.7500)
    """

    def compute(self) -> Tensor:
        """One number."""
        return self.per_class().nanmean()


def no_answer(logits: Tensor) -> Tensor:
    """Which rows name no class: one of their logits is NaN, or all are minus infinity."""
    return logits.isnan().any(1) | (logits == -torch.inf).all(1)


def warn_of_nan(count: Tensor, total: Tensor) -> None:
    """Tell how many outputs were NaN."""
    if count:
        rank_zero_warn(
            f"{int(count)} of {int(total)} outputs are NaN and count as wrong answers: the model has diverged, or gets "
            "NaN images."
        )


def check_batch(name: str, logits_or_preds: Tensor, target: Tensor, num_classes: int) -> None:
    """Refuse what would be counted wrongly."""
    if not isinstance(logits_or_preds, Tensor) or not isinstance(target, Tensor):
        raise LongTailError(f"{name} takes tensors: give torch.as_tensor(...) of predictions and target.")
    if target.ndim != 1 or len(logits_or_preds) != len(target) or logits_or_preds.ndim not in (1, 2):
        raise LongTailError(
            f"{name} expects (batch, {num_classes}) logits or (batch,) predictions with a (batch,) target, "
            f"got {tuple(logits_or_preds.shape)} and {tuple(target.shape)}."
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise LongTailError(f"{name} expects class indices as the target, got {target.dtype}.")
    if logits_or_preds.ndim == 2 and logits_or_preds.shape[1] != num_classes:
        raise LongTailError(f"{name} was made for {num_classes} classes, got logits for {logits_or_preds.shape[1]}.")
    if logits_or_preds.ndim == 1 and logits_or_preds.is_floating_point():
        raise LongTailError(f"{name} got 1-D floating predictions: pass class indices, or 2-D logits.")
    if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < num_classes:
        raise LongTailError(
            f"{name} got labels from {int(target.min())} to {int(target.max())}, outside 0..{num_classes - 1}."
        )
