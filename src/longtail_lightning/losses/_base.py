"""What every loss shares: bound class counts, checks, float32 inside autocast, reduction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, ClassCountsLike
from longtail_lightning.losses.weighting import Normalize as Normalize
from longtail_lightning.losses.weighting import class_weights, parse_weighting

Reduction = Literal["mean", "sum", "none"]


class LongTailLoss(nn.Module, ABC):
    """Base of all losses: `Loss(class_counts=None, *, ...)(logits, target) -> Tensor`.

    A child writes `compute`, the formula. This class does the rest: the class counts live in an
    integer buffer that is not saved (they belong to the data, and integers survive `.half()`),
    logits of half precision are computed in float32, wrong input ends in one sentence, and each
    sample's loss is multiplied by the weight of its class. A soft target mixes weighted losses,
    `sum(target[c] * weight[c] * loss(c))`, as `F.cross_entropy(weight=...)` does and as mixup asks for: the rarer of
    two mixed classes pulls harder.

    `weighting` may be assigned during training, `loss.weighting = "effective(0.9999)"`: that is all
    that deferred re-weighting does.

    What `reduction="mean"` divides by is `normalize`. `"global"` and `"batch"` divide by the batch
    size, so gradients averaged over ranks or accumulated over steps are those of the large batch;
    they differ by a constant factor. `"weight_sum"` divides by the weights of the batch, as
    `F.cross_entropy(weight=...)` does: each rank and each accumulation step then divides by a number
    of its own, and the gradients differ from those of the large batch. The weight of a soft target is
    `sum(target[c] * weight[c])`; torch divides soft targets by the batch size in any case.

    Args:
        class_counts: training images per class; may be bound later with `bind_class_counts`.
        weighting: `"none"`, `"inverse"`, `"inverse_sqrt"`, `"inverse_log"`, `"effective"` or
            `"effective(BETA)"`; see `losses.weighting.class_weights`.
        normalize: `"global"`: the weights have mean 1 over the training images; `"batch"`: mean 1
            over the classes, as in Cui et al. 2019; `"weight_sum"`: a weighted mean, as in LDAM-DRW.
        reduction: `"mean"` or `"sum"` over the batch, or `"none"` for one value per sample.
    """

    needs_class_counts: ClassVar[bool] = True
    """Whether the formula uses the counts; if not, the loss works unbound."""

    accepts_soft_targets: ClassVar[bool] = True
    """Whether `target` may be class probabilities (mixup, cutmix)."""

    multi_label: ClassVar[bool] = False
    """Whether `target` is multi-hot, `(batch, num_classes)`; such a loss has no single class to weight by."""

    class_counts: Tensor | None

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if normalize not in ("batch", "weight_sum", "global"):
            raise LongTailError(f"Unknown normalize {normalize!r}: choose 'batch', 'weight_sum' or 'global'.")
        self.weighting = weighting
        self.normalize: Normalize = normalize
        self.reduction: Reduction = checked_reduction(reduction)
        self.register_buffer("class_counts", None, persistent=False)
        if class_counts is not None:
            self.bind_class_counts(class_counts)

    def bind_class_counts(self, class_counts: ClassCountsLike) -> Self:
        """Give the loss its class counts; the LightningModules call this for you."""
        counts = ClassCounts(class_counts).tensor
        # Bound again after a move to the GPU, as modules do, the counts stay there.
        self.class_counts = counts if self.class_counts is None else counts.to(self.class_counts.device)
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
            logits = in_full_precision(logits)
            target = target.to(logits.dtype) if target.is_floating_point() or self.multi_label else target.long()
            if self.weighting == "none":
                return reduce(self.compute(logits, target), self.reduction)
            weights, target = self._weighted(target, logits.dtype)
            losses = self._one_each(self.compute(logits, target))
            total = reduce(weights * losses, self.reduction)
            # torch's own convention; the other two are in the scale of the weights already.
            by_weight = self.normalize == "weight_sum" and self.reduction == "mean"
            return total / weights.mean() if by_weight else total

    @property
    def weighting(self) -> str:
        """How samples are weighted by class; checked when assigned."""
        return self._weighting

    @weighting.setter
    def weighting(self, weighting: str) -> None:
        if parse_weighting(weighting)[0] != "none" and self.multi_label:
            raise LongTailError(
                f"{type(self).__name__} balances its labels by itself: leave weighting at 'none', not {weighting!r}."
            )
        self._weighting = weighting

    def _weighted(self, target: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The weight of each sample, and its target: a soft one leans toward the classes that weigh more."""
        weights = class_weights(self.bound_counts, self.weighting, normalize=self.normalize, dtype=dtype)
        if not target.is_floating_point():
            return weights[target], target
        weighted = target * weights
        total = weighted.sum(1)
        return total, weighted / total.clamp(min=torch.finfo(dtype).tiny)[:, None]

    def _one_each(self, losses: Tensor) -> Tensor:
        if losses.ndim != 1:
            raise LongTailError(
                f"{type(self).__name__} has weighting={self.weighting!r} but gives one loss for the whole batch: "
                "weights need one loss per sample; make the wrapped loss with reduction='none'."
            )
        return losses

    @property
    def bound_counts(self) -> Tensor:
        """The class counts, for `compute` of a loss that needs them."""
        assert self.class_counts is not None  # `_check` has run
        return self.class_counts

    def _check(self, logits: Tensor, target: Tensor) -> None:
        name = type(self).__name__
        if self.class_counts is None and (self.needs_class_counts or self.weighting != "none"):
            raise unbound(name)
        if not isinstance(logits, Tensor) or not isinstance(target, Tensor):
            raise LongTailError(f"{name} takes tensors: give torch.as_tensor(...) of logits and target.")
        if not logits.is_floating_point():
            raise LongTailError(f"{name} expects logits of a floating type, got {logits.dtype}.")
        if target.is_complex() or (target.dtype == torch.bool and not self.multi_label):
            raise LongTailError(f"{name} expects class indices or class probabilities, got {target.dtype}.")
        if logits.ndim != 2:
            raise LongTailError(f"{name} expects logits of shape (batch, num_classes), got {tuple(logits.shape)}.")
        if logits.shape[0] == 0:
            raise LongTailError(f"{name} got an empty batch: its mean is no number; leave such batches out.")
        num_classes = logits.shape[1]
        if self.class_counts is not None and self.class_counts.numel() != num_classes:
            raise LongTailError(
                f"{name} has class_counts of {self.class_counts.numel()} classes but the logits have {num_classes}: "
                "the head's num_classes and class_counts must agree."
            )
        if self.multi_label:
            if target.shape != logits.shape:
                raise LongTailError(
                    f"{name} expects multi-hot targets of shape {tuple(logits.shape)}, got {tuple(target.shape)}."
                )
        elif target.is_floating_point():
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


def unbound(name: str) -> LongTailError:
    """What to say when a loss that needs class counts has none."""
    return LongTailError(
        f"{name} needs class_counts: pass {name}(class_counts=...), call bind_class_counts(...), "
        "or let a LightningModule of this library bind them."
    )


def checked_reduction(reduction: Reduction) -> Reduction:
    """The reduction, if there is such a one."""
    if reduction not in ("mean", "sum", "none"):
        raise LongTailError(f"Unknown reduction {reduction!r}: choose 'mean', 'sum' or 'none'.")
    return reduction


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Mean or sum over the batch, or the losses as they are."""
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def in_full_precision(values: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
