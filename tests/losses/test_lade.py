from __future__ import annotations

import pytest
import torch

from longtail_lightning.losses import BalancedSoftmaxLoss, LADELoss
from tests.losses.compare import COUNTS, assert_matches
from tests.reference import losses as reference


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("lam", [0.01, 0.5])
def test_matches_the_paper_forward_and_gradient(alpha, lam):
    assert_matches(LADELoss, reference.lade, alpha=alpha, lam=lam)


def test_alpha_0_is_balanced_softmax():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    balanced = BalancedSoftmaxLoss(COUNTS)(logits, target)
    torch.testing.assert_close(LADELoss(COUNTS, alpha=0.0)(logits, target), balanced)


def test_a_class_absent_from_the_batch_keeps_its_partition_term():
    logits, target = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 2, 0, 2, 2])
    expected = reference.lade(logits, target, [90, 30, 10]).mean()
    torch.testing.assert_close(LADELoss([90, 30, 10])(logits, target), expected)


def test_a_class_without_images_is_no_part_of_the_regularizer():
    logits, target = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 0, 2, 0, 2, 2])
    loss = LADELoss([90, 0, 10])(logits, target) - BalancedSoftmaxLoss([90, 0, 10])(logits, target)
    loss.backward()
    torch.testing.assert_close(logits.grad[:, 1], torch.zeros(6))
