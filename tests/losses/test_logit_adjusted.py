from __future__ import annotations

import pytest
import torch

from longtail_lightning.losses import CrossEntropyLoss, LogitAdjustedLoss
from tests.losses.compare import COUNTS, assert_matches, one_hot_equals_index
from tests.reference import losses as reference


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_matches_the_paper_forward_and_gradient(tau):
    assert_matches(LogitAdjustedLoss, reference.logit_adjusted, tau=tau)


def test_tau_0_is_cross_entropy():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(LogitAdjustedLoss(COUNTS, tau=0.0)(logits, target), CrossEntropyLoss()(logits, target))


def test_a_rare_class_must_win_by_a_margin():
    losses = LogitAdjustedLoss(COUNTS, reduction="none")(torch.zeros(5, 5), torch.arange(5))
    assert bool((losses.diff() > 0).all())


def test_an_absent_class_is_as_rare_as_one_image_and_keeps_the_other_offsets():
    # Public ports that count with list(dict.values()) shift all later classes by one.
    logits, target = torch.randn(4, 3), torch.tensor([0, 2, 2, 0])
    with_absent = LogitAdjustedLoss([90, 0, 10])(logits, target)
    by_hand = torch.nn.functional.cross_entropy(logits + torch.tensor([0.9, 0.01, 0.1]).log(), target)
    torch.testing.assert_close(with_absent, by_hand)


def test_one_hot_target_is_the_class_index():
    one_hot_equals_index(LogitAdjustedLoss(COUNTS))
