"""Comparisons that several loss tests make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from longtail_lightning.losses import LongTailLoss

COUNTS = [500, 120, 33, 8, 1]


def assert_matches(
    loss: type[LongTailLoss], reference: Callable[..., Tensor], counts: list[int] = COUNTS, **options: Any
) -> None:
    """Same value and same gradient as the re-typed formula, in float64."""
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(16, len(counts), dtype=torch.float64, generator=generator)
    target = torch.randint(len(counts), (16,), generator=generator)
    weights = torch.rand(16, dtype=torch.float64, generator=generator)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = loss(counts, reduction="none", **options)(ours, target)
    expected = reference(theirs, target, counts, **options)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    (weights * value).sum().backward()
    (weights * expected).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def one_hot_equals_index(loss: LongTailLoss) -> None:
    """A one-hot target is another way to write a class index."""
    logits, target = torch.randn(8, 5, dtype=torch.float64), torch.randint(5, (8,))
    one_hot = torch.nn.functional.one_hot(target, 5).double()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, target))
