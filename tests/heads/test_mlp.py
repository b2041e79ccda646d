from __future__ import annotations

import pytest
import torch
from torch import nn

from longtail_lightning import MLPHead
from longtail_lightning._errors import LongTailError
from tests.reference import heads as reference


@pytest.mark.parametrize(("depth", "hidden"), [(1, None), (2, None), (2, 7), (3, 5)])
def test_matches_the_formula_forward_and_gradient(depth, hidden):
    head = MLPHead(6, 4, depth=depth, hidden=hidden).double()
    layers = [(layer.weight, layer.bias) for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [weight.shape[0] for weight, _ in layers] == [hidden or 6] * (depth - 1) + [4]
    features = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    expected = reference.mlp(features, layers)
    torch.testing.assert_close(head(features), expected)
    inputs = [features, *head.parameters()]
    torch.testing.assert_close(*[torch.autograd.grad(out.square().sum(), inputs) for out in (head(features), expected)])


@pytest.mark.parametrize("options", [{"depth": 0}, {"hidden": 0}])
def test_no_layers_are_refused(options):
    with pytest.raises(LongTailError, match="2 or 3 layers of 2048 or 512"):
        MLPHead(6, 4, **options)
