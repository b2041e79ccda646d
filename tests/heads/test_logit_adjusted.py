from __future__ import annotations

import math

import pytest
import torch

from longtail_lightning import ClassCounts, LinearHead, LogitAdjustedHead, LongTailError
from longtail_lightning._spec import build, spec_of


def test_menon_equation_9():
    head, counts = LinearHead(4, 3).double(), [90, 9, 1]
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    logits = head(features)
    by_hand = torch.stack([logits[:, c] - 0.7 * math.log(n / 100) for c, n in enumerate(counts)], 1)
    made = LogitAdjustedHead(head, counts, tau=0.7)(features)
    torch.testing.assert_close(made, by_hand, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(z.square().sum(), features)[0] for z in (made, by_hand)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_other_counts_can_be_bound_and_travel_with_the_module_that_has_them():
    made = LogitAdjustedHead(LinearHead(4, 3), [9, 3, 0])
    rebuilt = build(spec_of(made), ClassCounts([1, 1, 1]))
    rebuilt.load_state_dict(made.state_dict())
    rebuilt.bind_class_counts([9, 3, 0])
    features = torch.randn(2, 4)
    torch.testing.assert_close(rebuilt(features), made(features))
    with pytest.raises(LongTailError, match="of 2 classes, the head has 3"):
        made.bind_class_counts([1, 2])
    with pytest.raises(LongTailError, match="tau"):
        LogitAdjustedHead(LinearHead(4, 3), [9, 3, 0], tau=float("nan"))
