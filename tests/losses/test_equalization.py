from __future__ import annotations

import pytest
import torch

from longtail_lightning.losses import CrossEntropyLoss, EqualizationLoss
from tests.losses.compare import assert_matches
from tests.reference import losses as reference


def test_matches_the_paper_forward_and_gradient_when_every_rare_negative_is_left_out():
    counts = [5000, 1200, 33, 2, 1]
    logits = torch.randn(10, 5, dtype=torch.float64)
    target = torch.arange(10) % 5
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = EqualizationLoss(counts, gamma=1.0, reduction="sum")(ours, target)
    expected = reference.equalization_always(theirs, target, counts, 4.3e-4).sum()
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gamma_0_is_cross_entropy():
    assert_matches(EqualizationLoss, lambda z, y, n, **_: reference.cross_entropy(z, y, n), gamma=0.0, threshold=0.5)


def test_a_rare_negative_is_left_out_as_often_as_gamma_says():
    logits, target = torch.zeros(20_000, 2), torch.zeros(20_000, dtype=torch.long)
    losses = EqualizationLoss([9999, 1], gamma=0.9, reduction="none")(logits, target)
    kept = (losses > 0).float().mean().item()
    assert kept == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / 20_000) ** 0.5)


def test_each_sample_and_class_is_drawn_by_itself():
    loss = EqualizationLoss([9998, 1, 1], gamma=0.5, reduction="none")
    values = loss(torch.zeros(500, 3), torch.zeros(500, dtype=torch.long))
    assert len(values.unique()) == 3  # log 1, log 2, log 3


def test_the_target_and_frequent_classes_are_never_left_out():
    logits, target = torch.zeros(100, 2), torch.ones(100, dtype=torch.long)
    loss = EqualizationLoss([9999, 1], gamma=1.0)(logits, target)
    torch.testing.assert_close(loss, torch.tensor(2.0).log())


def test_evaluation_is_cross_entropy():
    logits, target = torch.randn(8, 2), torch.randint(2, (8,))
    torch.testing.assert_close(EqualizationLoss([9999, 1]).eval()(logits, target), CrossEntropyLoss()(logits, target))


def test_the_draw_follows_the_seed():
    logits, target = torch.randn(64, 2), torch.zeros(64, dtype=torch.long)
    loss = EqualizationLoss([9999, 1], gamma=0.5)
    values = [torch.manual_seed(seed) and loss(logits, target).item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_rare_is_a_share_of_all_images():
    """10 of 100 images are below a share of 0.15, but not below 0.15 of the largest class."""
    logits = torch.randn(4, 3, dtype=torch.float64)
    target = torch.tensor([0, 1, 0, 1])
    loss = EqualizationLoss([60, 30, 10], gamma=1.0, threshold=0.15)
    torch.testing.assert_close(loss(logits, target), torch.nn.functional.cross_entropy(logits[:, :2], target))
