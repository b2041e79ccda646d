from __future__ import annotations

import pytest
import torch

from longtail_lightning.losses import LogitAdjustedLoss, VectorScalingLoss
from tests.losses.compare import COUNTS, assert_matches
from tests.reference import losses as reference


@pytest.mark.parametrize("gamma", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("tau", [0.0, 1.25])
def test_matches_the_paper_forward_and_gradient(gamma, tau):
    assert_matches(VectorScalingLoss, reference.vector_scaling, gamma=gamma, tau=tau)


def test_gamma_0_is_logit_adjustment():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    adjusted = LogitAdjustedLoss(COUNTS, tau=1.25)(logits, target)
    torch.testing.assert_close(VectorScalingLoss(COUNTS, gamma=0.0)(logits, target), adjusted)


def test_late_in_training_rare_classes_keep_a_gradient():
    # All logits large and right: a shift no longer matters, the scale still does.
    logits = (20 * torch.eye(5)).requires_grad_()
    VectorScalingLoss(COUNTS, tau=0.0, gamma=0.5, reduction="sum")(logits, torch.arange(5)).backward()
    assert float(logits.grad[4, 4].abs()) > 10 * float(logits.grad[0, 0].abs())
