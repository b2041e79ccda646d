from __future__ import annotations

import pytest
import torch

from longtail_lightning import CosineHead
from longtail_lightning._errors import LongTailError
from tests.reference import heads as reference


def test_matches_the_formula_forward_and_gradient():
    head = CosineHead(6, 4, scale=5.0).double()
    features = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    inputs = [features, head.weight, head.scale]
    expected = reference.cosine(features, head.weight, head.scale)
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(*[torch.autograd.grad(out.square().sum(), inputs) for out in (head(features), expected)])


def test_norms_do_not_matter():
    # A public port normalizes the weights over the classes, where this would fail.
    head, features = CosineHead(6, 4), torch.randn(3, 6)
    expected = head(features)
    with torch.no_grad():
        head.weight *= torch.tensor([[0.1], [1.0], [7.0], [100.0]])
    torch.testing.assert_close(head(9 * features), expected)


def test_the_scale_is_learned_or_fixed_and_saved_either_way():
    assert {name for name, _ in CosineHead(2, 2).named_parameters()} == {"weight", "scale"}
    fixed = CosineHead(2, 2, scale=30.0, learnable_scale=False)
    assert {name for name, _ in fixed.named_parameters()} == {"weight"}
    assert float(fixed.state_dict()["scale"]) == 30.0
    assert CosineHead(2, 2).scale.item() == 16.0


def test_a_scale_of_zero_is_refused():
    with pytest.raises(LongTailError, match="finite scale above 0"):
        CosineHead(2, 2, scale=0.0)
