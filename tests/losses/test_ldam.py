from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longtail_lightning.heads import CosineHead
from longtail_lightning.losses import LDAMLoss
from tests.losses.compare import COUNTS, assert_matches
from tests.reference import losses as reference


@pytest.mark.parametrize("max_margin", [0.2, 0.5])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_matches_the_paper_forward_and_gradient(max_margin, scale):
    assert_matches(LDAMLoss, reference.ldam, max_margin=max_margin, scale=scale)


def test_the_rarest_class_has_the_largest_margin():
    losses = LDAMLoss(COUNTS, reduction="none", scale=1.0)(torch.zeros(5, 5), torch.arange(5))
    margins = (losses.exp() - 1).log() - torch.tensor(4.0).log()
    torch.testing.assert_close(margins[4], torch.tensor(0.5))
    torch.testing.assert_close(margins[0], torch.tensor(0.5 * 500**-0.25))


def test_margin_0_is_cross_entropy_of_the_scaled_logits():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(LDAMLoss(COUNTS, max_margin=0.0)(logits, target), F.cross_entropy(30 * logits, target))


def test_a_head_that_scales_is_the_same_with_the_scale_moved_into_the_margin():
    features, target = torch.randn(8, 4), torch.randint(5, (8,))
    head = CosineHead(4, 5, scale=30.0, learnable_scale=False)
    cosines = head(features) / 30
    moved = LDAMLoss(COUNTS, scale=1.0, max_margin=15.0)(head(features), target)
    torch.testing.assert_close(moved, LDAMLoss(COUNTS)(cosines, target))


def test_the_logits_of_the_caller_stay_as_they_are():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    before = logits.clone()
    LDAMLoss(COUNTS, scale=1.0)(logits, target)
    assert torch.equal(logits, before)
