from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import DistributionBalancedLoss
from tests.losses.compare import COUNTS
from tests.reference import losses as reference


def multi_hot(size=16):
    target = torch.rand(size, 5) < 0.4
    target[torch.arange(size), torch.arange(size) % 5] = True
    return target


@pytest.mark.parametrize(
    "options", [{}, {"mu": 0.3, "lam": 5.0}, {"alpha": 0.5, "beta": 3.0, "kappa": 0.2}, {"num_images": 1000}]
)
def test_matches_the_paper_forward_and_gradient(options):
    options = {"num_images": 600, **options}
    logits, target = 3 * torch.randn(16, 5, dtype=torch.float64), multi_hot()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = DistributionBalancedLoss(COUNTS, reduction="none", **options)(ours, target)
    expected = reference.distribution_balanced(theirs, target, COUNTS, **options)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32, torch.float64])
def test_targets_of_any_type(dtype):
    logits, target = torch.randn(16, 5), multi_hot()
    loss = DistributionBalancedLoss(COUNTS)
    torch.testing.assert_close(loss(logits, target.to(dtype)), loss(logits, target.float()))


def test_without_its_two_parts_it_is_binary_cross_entropy():
    logits, target = torch.randn(16, 5), multi_hot().float()
    loss = DistributionBalancedLoss(COUNTS, alpha=0.5, beta=0.0, lam=1.0, kappa=0.0)
    torch.testing.assert_close(loss(logits, target), F.binary_cross_entropy_with_logits(logits, target))


def test_an_image_without_labels_stays_finite():
    logits = torch.randn(2, 5, requires_grad=True)
    loss = DistributionBalancedLoss(COUNTS)(logits, torch.zeros(2, 5))
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())


def test_class_indices_are_refused():
    with pytest.raises(LongTailError, match=r"expects multi-hot targets of shape \(2, 5\), got \(2,\)"):
        DistributionBalancedLoss(COUNTS)(torch.zeros(2, 5), torch.tensor([0, 1]))
