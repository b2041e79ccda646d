from __future__ import annotations

import torch

from longtail_lightning import LinearHead
from tests.reference import heads as reference


def test_matches_the_formula_forward_and_gradient():
    head = LinearHead(6, 4).double()
    features = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    expected = reference.linear(features, head.weight, head.bias)
    torch.testing.assert_close(head(features), expected)
    grads = [torch.autograd.grad(out.square().sum(), [features, head.weight, head.bias]) for out in (head(features), expected)]
    torch.testing.assert_close(*grads)


def test_without_bias():
    head = LinearHead(6, 4, bias=False)
    assert head.bias is None
    assert not bool(head(torch.zeros(1, 6)).any())
