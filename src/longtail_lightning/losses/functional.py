"""The formulas alone: tensors in, one value per sample out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from longtail_lightning.counts import log_prior


def cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy per sample; see `CrossEntropyLoss`."""
    return F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)


def logit_adjusted(
    logits: Tensor, target: Tensor, class_counts: Tensor, *, tau: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of logits shifted by `tau * log_prior`; see `LogitAdjustedLoss`."""
    offset = tau * log_prior(class_counts, logits.dtype)
    return cross_entropy(logits + offset, target, label_smoothing=label_smoothing)


def balanced_softmax(
    logits: Tensor, target: Tensor, class_counts: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of logits shifted by the log class counts; see `BalancedSoftmaxLoss`."""
    offset = class_counts.clamp(min=1).to(logits.dtype).log()
    return cross_entropy(logits + offset, target, label_smoothing=label_smoothing)
