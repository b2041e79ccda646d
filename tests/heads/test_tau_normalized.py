from __future__ import annotations

import pytest
import torch
from torch import nn

from longtail_lightning import CosineHead, LearnableScaleHead, LinearHead, TauNormalizedHead
from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from tests.reference import heads as reference


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 2.0])
def test_matches_the_formula_forward_and_gradient(tau):
    trained = LinearHead(6, 4).double()
    head = TauNormalizedHead(trained, tau=tau)
    features = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    expected = reference.tau_normalized(features, trained.weight.detach(), tau)
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(
        *[torch.autograd.grad(out.square().sum(), features) for out in (head(features), expected)]
    )


def test_the_bias_is_dropped_unless_kept():
    # Some public code leaves it in.
    trained, features = LinearHead(6, 4), torch.randn(3, 6)
    dropped, kept = TauNormalizedHead(trained, tau=0.7), TauNormalizedHead(trained, tau=0.7, bias="keep")
    torch.testing.assert_close(kept(features), dropped(features) + trained.bias)
    assert not bool(dropped(torch.zeros(1, 6)).any())
    torch.testing.assert_close(TauNormalizedHead(trained, tau=0.0, bias="keep")(features), trained(features))
    with pytest.raises(LongTailError, match="choose 'drop'"):
        TauNormalizedHead(trained, bias=False)


def test_is_a_copy_without_gradients():
    trained = LinearHead(6, 4)
    head = TauNormalizedHead(trained)
    assert not any(p.requires_grad for p in head.parameters())
    assert all(p.requires_grad for p in trained.parameters())
    with torch.no_grad():
        trained.weight.zero_()
    assert bool(head.head.weight.any())


@pytest.mark.parametrize("bias", ["drop", "keep"])
def test_folds_into_a_linear_head(bias):
    head, features = TauNormalizedHead(LinearHead(6, 4), tau=1.0, bias=bias), torch.randn(5, 6)
    torch.testing.assert_close(head.to_linear()(features), head(features))
    torch.testing.assert_close(head.to_linear().weight.norm(dim=1), torch.ones(4))


def test_builds_on_what_is_linear():
    features = torch.randn(5, 6)
    linear = nn.Linear(6, 4)
    head = TauNormalizedHead(linear, tau=0.5, bias="keep")
    torch.testing.assert_close(TauNormalizedHead(head, tau=0.0, bias="keep")(features), linear(features))
    scaled = LearnableScaleHead(linear)
    torch.testing.assert_close(TauNormalizedHead(scaled, tau=0.0, bias="keep")(features), linear(features))
    with pytest.raises(LongTailError, match=r"needs a linear classifier .* got CosineHead"):
        TauNormalizedHead(CosineHead(6, 4))


def test_a_weight_of_zero_stays_finite():
    trained = LinearHead(6, 4)
    with torch.no_grad():
        trained.weight[1] = 0
    for tau in (0.0, 1.0, 2.0):
        logits = TauNormalizedHead(trained, tau=tau)(torch.randn(3, 6))
        assert bool(logits.isfinite().all())
        assert not bool(logits[:, 1].any())


def test_bf16_weights_are_normalized_in_float32():
    trained = LinearHead(512, 4)
    features = torch.randn(8, 512)
    expected = TauNormalizedHead(trained, tau=1.0)(features)
    low = TauNormalizedHead(trained.bfloat16(), tau=1.0)(features.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.05)


def test_tau_can_be_changed_and_is_remembered():
    head = TauNormalizedHead(LinearHead(6, 4))
    head.tau = 0.25
    assert build(spec_of(head)).tau == 0.25


@pytest.mark.parametrize("tau", [float("nan"), float("inf"), "0.5", None])
def test_what_is_no_finite_number_is_refused(tau):
    head = TauNormalizedHead(LinearHead(6, 4), tau=1)
    with pytest.raises(LongTailError, match=rf"tau={tau!r} must be a finite number"):
        head.tau = tau
    with pytest.raises(LongTailError, match="must be a finite number"):
        TauNormalizedHead(LinearHead(6, 4), tau=tau)
    assert head.tau == 1
