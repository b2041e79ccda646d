from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from longtail_lightning import CosineHead, LearnableScaleHead, LinearHead, MLPHead, TauNormalizedHead
from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from tests.reference import heads as reference


def scaled(**options):
    head = LearnableScaleHead(LinearHead(6, 4), **options).double()
    with torch.no_grad():
        head.scale.copy_(torch.tensor([0.5, 2.0, 1.0, -1.0]))
    return head


def test_matches_the_formula_forward_and_gradient():
    head = scaled()
    features = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    expected = reference.learnable_scale(features, head.head.weight, head.head.bias, head.scale)
    torch.testing.assert_close(head(features), expected)
    inputs = [features, head.scale]
    torch.testing.assert_close(*[torch.autograd.grad(out.square().sum(), inputs) for out in (head(features), expected)])


def test_the_bias_is_scaled_only_when_asked():
    # The authors' code scales it, the paper's formula does not.
    zero = torch.zeros(1, 6, dtype=torch.float64)
    head, theirs = scaled(), scaled(scale_bias=True)
    torch.testing.assert_close(head(zero)[0], head.head.bias)
    torch.testing.assert_close(theirs(zero)[0], theirs.head.bias * theirs.scale)


def test_begins_as_the_trained_head_and_learns_the_factors_alone():
    trained = LinearHead(6, 4)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    head, features = LearnableScaleHead(trained), torch.randn(9, 6)
    torch.testing.assert_close(head(features), trained(features), rtol=0, atol=0)
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.5, weight_decay=0.1)
    nn.functional.cross_entropy(head(features), torch.arange(9) % 4).backward()
    optimizer.step()
    assert [name for name, p in head.named_parameters() if p.grad is not None] == ["scale"]
    assert bool((head.scale != 1).all())
    assert all(p.requires_grad for p in trained.parameters()), "the trained head is still its owner's"
    torch.testing.assert_close(trained.state_dict(), before)


@pytest.mark.parametrize("scale_bias", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_folds_into_a_linear_head(scale_bias, bias):
    head = LearnableScaleHead(LinearHead(6, 4, bias=bias), scale_bias=scale_bias)
    with torch.no_grad():
        head.scale.uniform_(0.5, 2.0)
    features = torch.randn(5, 6)
    torch.testing.assert_close(head.to_linear()(features), head(features))
    assert (head.to_linear().bias is not None) == bias


def test_any_head_can_be_scaled():
    features = torch.randn(3, 6)
    for inner in (nn.Linear(6, 4), CosineHead(6, 4), MLPHead(6, 4)):
        head = LearnableScaleHead(inner)
        torch.testing.assert_close(head(features), inner(features))
    with pytest.raises(LongTailError, match="Only a scaled LinearHead"):
        head.to_linear()
    with pytest.raises(LongTailError, match="got Sequential: give it LinearHead"):
        LearnableScaleHead(nn.Sequential(nn.Linear(6, 4)))


@pytest.mark.parametrize("kind", [nn.Linear, LinearHead])
@pytest.mark.parametrize("wrapper", [LearnableScaleHead, partial(TauNormalizedHead, tau=0.0, bias="keep")])
def test_computed_weights_become_plain_ones(kind, wrapper):
    inner = weight_norm(kind(6, 4))
    with torch.no_grad():
        inner.parametrizations.weight.original0.mul_(2.0)
    head, features = wrapper(inner), torch.randn(3, 6)
    torch.testing.assert_close(head(features), inner(features))
    assert spec_of(head)["init_args"]["head"] == spec_of(LinearHead(6, 4))
    assert not any(p.requires_grad for p in head.head.parameters())
    assert all(p.requires_grad for p in inner.parameters())


def test_comes_back_from_its_spec_with_what_it_wraps():
    head = scaled(scale_bias=True).float()
    twin = build(spec_of(head))
    twin.load_state_dict(head.state_dict())
    features = torch.randn(3, 6)
    torch.testing.assert_close(twin(features), head(features))
    assert [name for name, p in twin.named_parameters() if p.requires_grad] == ["scale"]
