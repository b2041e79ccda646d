from __future__ import annotations

import torch

from longtail_lightning.losses import BalancedSoftmaxLoss, LogitAdjustedLoss
from tests.losses.compare import COUNTS, assert_matches, one_hot_equals_index
from tests.reference import losses as reference


def test_matches_the_paper_forward_and_gradient():
    assert_matches(BalancedSoftmaxLoss, reference.balanced_softmax)


def test_equals_logit_adjustment_with_tau_1():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(BalancedSoftmaxLoss(COUNTS)(logits, target), LogitAdjustedLoss(COUNTS)(logits, target))


def test_one_hot_target_is_the_class_index():
    one_hot_equals_index(BalancedSoftmaxLoss(COUNTS))


def test_a_class_without_images_stays_finite():
    loss = BalancedSoftmaxLoss([5, 0])(torch.zeros(1, 2), torch.tensor([1]))
    assert bool(loss.isfinite())
