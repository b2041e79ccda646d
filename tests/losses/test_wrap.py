from __future__ import annotations

import torch
from torch import nn

from longtail_lightning.losses import LogitAdjustedLoss, WrapLoss


def test_calls_the_wrapped_loss():
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(WrapLoss(weighted)(logits, target), weighted(logits, target))


def test_hands_the_counts_on():
    inner = LogitAdjustedLoss()
    WrapLoss(inner, class_counts=[3, 1])
    assert inner.bound_counts.tolist() == [3, 1]


def test_reduces_a_loss_per_sample():
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    wrapped = WrapLoss(nn.CrossEntropyLoss(reduction="none"), reduction="sum")
    torch.testing.assert_close(wrapped(logits, target), nn.functional.cross_entropy(logits, target, reduction="sum"))
