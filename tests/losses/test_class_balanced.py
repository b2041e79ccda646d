from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import ClassBalancedLoss, CrossEntropyLoss
from tests.losses.compare import COUNTS, assert_matches
from tests.reference import losses as reference


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_matches_the_paper_forward_and_gradient(beta, gamma):
    assert_matches(ClassBalancedLoss, reference.class_balanced, beta=beta, gamma=gamma)


def test_is_softmax_cross_entropy_and_not_binary():
    # The authors' "softmax" mode is a binary cross-entropy of softmax probabilities.
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(ClassBalancedLoss([7] * 5)(logits, target), CrossEntropyLoss()(logits, target))


def test_is_cross_entropy_with_the_shared_weighting():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    weighted = CrossEntropyLoss(COUNTS, weighting="effective(0.99)", normalize="batch")
    torch.testing.assert_close(ClassBalancedLoss(COUNTS, beta=0.99)(logits, target), weighted(logits, target))


def test_large_counts_do_not_lose_their_digits():
    # 1 - beta^n computed as such is rounding noise for beta close to 1.
    logits, target = torch.zeros(2, 2), torch.tensor([0, 1])
    each = ClassBalancedLoss([2, 1], beta=0.99999999, reduction="none")(logits, target)
    torch.testing.assert_close(each[1] / each[0], torch.tensor(2.0), rtol=1e-5, atol=0)


def test_a_beta_out_of_range_is_refused():
    with pytest.raises(LongTailError, match="0 < BETA < 1"):
        ClassBalancedLoss(beta=1.5)
