from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longtail_lightning.losses import GaussianCloudedLoss, functional
from tests.losses.compare import COUNTS
from tests.reference import losses as reference


def test_matches_the_paper_forward_and_gradient_for_given_noise():
    logits = torch.rand(10, 5, dtype=torch.float64)
    noise = (torch.randn(10, 5, dtype=torch.float64) / 3).clamp(-1, 1)
    target = torch.arange(10) % 5
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = functional.gaussian_clouded(ours, target, torch.tensor(COUNTS), noise)
    expected = reference.gaussian_clouded(theirs, target, COUNTS, noise)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_training_draws_clipped_noise_of_deviation_one_third():
    logits, target = torch.zeros(50_000, 2), torch.ones(50_000, dtype=torch.long)
    losses = GaussianCloudedLoss([90, 10], strength=1.0, scale=1.0, reduction="none")(logits, target)
    noise = (losses.exp() - 1).log()  # how far the rare class was lowered
    assert float(noise.min()) >= -1e-6
    assert float(noise.max()) == pytest.approx(1.0, abs=1e-4)
    assert float(noise.mean()) == pytest.approx((2 / torch.pi) ** 0.5 / 3, abs=0.005)


def test_evaluation_has_no_noise():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    loss = GaussianCloudedLoss(COUNTS).eval()
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(30 * logits, target))


def test_the_rarer_the_class_the_wider_its_cloud():
    logits = torch.zeros(5000, 5)
    loss = GaussianCloudedLoss(COUNTS, reduction="none", scale=1.0)
    means = [loss(logits, torch.full((5000,), label)).mean().item() for label in range(5)]
    assert means == sorted(means)


def test_noise_follows_the_seed():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    loss = GaussianCloudedLoss(COUNTS)
    values = [torch.manual_seed(seed) and loss(logits, target).item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
