from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import CrossEntropyLoss, FocalLoss
from tests.losses.compare import COUNTS, assert_matches
from tests.reference import losses as reference


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_matches_the_paper_forward_and_gradient(gamma):
    assert_matches(FocalLoss, reference.focal, gamma=gamma)


def test_gamma_0_is_cross_entropy():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(FocalLoss(gamma=0.0)(logits, target), CrossEntropyLoss()(logits, target))


def test_the_probability_is_that_of_the_unweighted_loss():
    # Public ports take p from exp(-weight * cross-entropy), which is no probability.
    logits, target = torch.randn(8, 5, dtype=torch.float64), torch.randint(5, (8,))
    weights = 1 / torch.tensor(COUNTS, dtype=torch.float64)
    weights *= 5 / weights.sum()
    expected = weights[target] * reference.focal(logits, target, COUNTS)
    loss = FocalLoss(COUNTS, weighting="inverse", normalize="batch", reduction="none")
    torch.testing.assert_close(loss(logits, target), expected)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_a_perfect_prediction_has_a_gradient(gamma):
    # The derivative of (1 - p)^gamma is infinite at p = 1 when gamma < 1.
    logits = torch.tensor([[500.0, 0.0], [0.0, 500.0]], requires_grad=True)
    for target in (torch.tensor([0, 1]), torch.eye(2)):
        FocalLoss(gamma=gamma)(logits, target).backward()
        assert bool(logits.grad.isfinite().all())


def test_easy_samples_fade():
    logits = torch.tensor([[4.0, 0.0], [0.5, 0.0]])
    target = torch.tensor([0, 0])
    ratio = FocalLoss(reduction="none")(logits, target) / CrossEntropyLoss(reduction="none")(logits, target)
    assert float(ratio[0]) < 0.001 < 0.1 < float(ratio[1])


def test_a_negative_gamma_is_refused():
    with pytest.raises(LongTailError, match="finite gamma of at least 0"):
        FocalLoss(gamma=-1.0)
