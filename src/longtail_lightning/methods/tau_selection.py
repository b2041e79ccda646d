"""Choose the strength of tau-normalization on a bank: every tau from one set of logits, never on test images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, ClassCountsLike, Convention, split_means
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.features._require import refuse_test, require_bank
from longtail_lightning.features.bank import FeatureBank
from longtail_lightning.heads import LinearHead
from longtail_lightning.heads._frozen import frozen_copy
from longtail_lightning.heads.tau_normalized import BiasPolicy, check_bias, linear_of, tau_scale

Criterion = Literal["macro", "micro"]
TAUS = tuple(i / 10 for i in range(21))
"""0, 0.1, ..., 2: the authors' grid."""
_QUERIES = 1024
_CLASSES = 2048


@dataclass(frozen=True, eq=False)
class TauSelection:
    """What `select_tau` found.

    Args:
        tau: the best one.
        taus: all that were tried.
        per_class: `(len(taus), num_classes)`, accuracy of each class; NaN for one without images in the bank.
        table: one row per tau: `tau`, `many`, `medium`, `few` (None without classes, or without class counts) and
            `all`, means over classes as fractions.

    Examples:
        >>> per_class = torch.tensor([[1.0, 0.0], [0.8, 0.4]])
        >>> TauSelection(tau=0.5, taus=[0.0, 0.5], per_class=per_class, table=[]).tau
        0.5
    """

    tau: float
    taus: list[float]
    per_class: Tensor
    table: list[dict[str, float | None]]

    def curve(self, split: str) -> dict[str, Any]:
        """Accuracy over tau as plain values, in the form of a curve in a method's details.

        Args:
            split: what was looked at, `"val"` or `"train"`.
        """
        rows = [{"tau": tau, "per_class": values.tolist()} for tau, values in zip(self.taus, self.per_class)]
        return {"x": "tau", "chosen": self.tau, "split": split, "rows": rows}


def select_tau(
    head: nn.Module,
    bank: FeatureBank,
    taus: Sequence[float] = TAUS,
    *,
    class_counts: ClassCountsLike | None = None,
    criterion: Criterion = "macro",
    bias: BiasPolicy = "drop",
    many: int = 100,
    few: int = 20,
    convention: Convention = "kang",
    device: torch.device | str = "auto",
) -> TauSelection:
    r"""Choose \(\tau\) of `TauNormalizedHead` by accuracy on a bank of validation features.

    Without validation images, take the bank of the training features: the mean over the classes of
    per-class accuracy stands in for a balanced test set (appendix B.5 of the paper, which found all
    but the same \(\tau\)). A bank of test features is refused.

    All taus share one set of logits, whose columns are scaled; queries and classes are streamed in
    blocks, so neither the bank nor the logits need to fit into memory.

    Args:
        head: the trained `LinearHead` or `nn.Linear`.
        bank: features and labels to choose on.
        taus: what to try; of equally good ones the first wins, and a warning says when the largest does.
        class_counts: training images per class, for the table per split.
        criterion: `"macro"`, the mean over classes, or `"micro"`, the share of right answers.
        bias: `"drop"`, as in the paper, or `"keep"`.
        many: classes with more training images are many-shot.
        few: classes with fewer training images are few-shot.
        convention: side of the bounds, `"kang"` (>, <) or `"oltr"` (>=, <=).
        device: where to compute; by default where the head is, or else a GPU.

    Examples:
        >>> head = LinearHead(2, 2, bias=False)
        >>> _ = head.weight.data.copy_(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
        >>> bank = FeatureBank.from_arrays(torch.tensor([[3.0, 1.0], [1.0, 2.0]]), [0, 1])
        >>> select_tau(head, bank).tau
        0.6
    """
    require_bank(bank)
    taus = check_taus(taus, bias)
    if criterion not in ("macro", "micro"):
        raise LongTailError(f"Unknown criterion={criterion!r}: choose 'macro' (mean over classes) or 'micro'.")
    refuse_test(bank, "tau")
    correct, support = tau_correct(head, bank, taus, bias=bias, device=device)
    per_class = torch.where(support > 0, correct / support, torch.nan)
    scores = per_class.nanmean(1) if criterion == "macro" else correct.sum(1) / support.sum()
    splits = (
        None if class_counts is None else ClassCounts(class_counts).shots(many=many, few=few, convention=convention)
    )
    table = [{"tau": tau, **split_means(values, splits)} for tau, values in zip(taus, per_class)]
    tau = taus[int(scores.argmax())]
    if len(taus) > 1 and tau == max(taus):
        warnings.warn(f"The best tau, {tau:g}, is the largest of taus: a larger one may be better.", stacklevel=2)
    return TauSelection(tau, taus, per_class, table)


def check_taus(taus: Sequence[float], bias: BiasPolicy) -> list[float]:
    """The values to try, as a list of floats."""
    check_bias(bias)
    try:
        checked = [float(tau) for tau in taus]
    except (TypeError, ValueError):
        checked = []
    if not checked or not all(map(math.isfinite, checked)):
        raise LongTailError(f"taus={taus} must be a list of finite numbers, at least one, such as [0.0, 0.5, 1.0].")
    return checked


def tau_correct(
    head: nn.Module,
    bank: FeatureBank,
    taus: Sequence[float],
    *,
    bias: BiasPolicy = "drop",
    device: torch.device | str = "auto",
) -> tuple[Tensor, Tensor]:
    """Right answers `(taus, classes)` and images `(classes,)` of each class, on the CPU."""
    linear = linear_for(head, bank).to(choose_device(device, head))
    weight = linear.weight.detach()
    offset = linear.bias.detach() if bias == "keep" and linear.bias is not None else None
    scales = torch.stack([tau_scale(weight, tau) for tau in taus])
    correct = torch.zeros(len(taus), linear.num_classes, dtype=torch.float64)
    for features, target in _batches(bank, weight):
        best = scales.new_full((len(taus), len(target)), -torch.inf)
        answer = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
        for start in range(0, linear.num_classes, _CLASSES):
            block = slice(start, start + _CLASSES)
            logits = F.linear(features, weight[block].to(features.dtype))
            scaled = torch.empty_like(logits)
            for i, scale in enumerate(scales[:, block]):
                torch.mul(logits, scale, out=scaled)
                if offset is not None:
                    scaled += offset[block]
                value, index = scaled.max(1)
                # Strictly greater: of equal logits the first class wins, as everywhere. A NaN stays the best, so that
                # no class is right.
                better = (value > best[i]) | value.isnan()
                best[i] = torch.where(better, value, best[i])
                answer[i] = torch.where(better, index + start, answer[i])
        answer[best.isnan()] = -1
        right = (answer == target).cpu()
        target = target.cpu()
        for i, hits in enumerate(right):
            correct[i] += torch.bincount(target[hits], minlength=linear.num_classes)
    support = torch.bincount(bank.require_single_labels("tau"), minlength=linear.num_classes).double()
    return correct, support


def linear_for(head: nn.Module, bank: FeatureBank) -> LinearHead:
    """The linear head whose weight norms will be evened out; refuse one that does not fit the bank."""
    linear: LinearHead = frozen_copy(linear_of(head, "tau-normalization"), "tau-normalization")  # type: ignore[assignment]
    if linear.num_features != bank.num_features:
        raise LongTailError(
            f"The head was made for {linear.num_features} features, the bank's are {bank.num_features} wide: "
            "extract them with the backbone that belongs to the head."
        )
    if bank.num_classes > linear.num_classes:
        raise LongTailError(
            f"The head was made for {linear.num_classes} classes, the bank has {bank.num_classes}: "
            "use the head that was trained on these data."
        )
    return linear


def _batches(bank: FeatureBank, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    dtype = torch.promote_types(like.dtype, torch.float32)
    yield from bank.batches(_QUERIES, device=like.device, dtype=dtype)
