from __future__ import annotations

import pickle

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.counts import ClassCounts
from longtail_lightning.losses import CrossEntropyLoss, LogitAdjustedLoss
from tests.losses.compare import COUNTS, assert_matches, one_hot_equals_index
from tests.reference import losses as reference


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_matches_the_paper_forward_and_gradient(tau):
    assert_matches(LogitAdjustedLoss, reference.logit_adjusted, tau=tau)


@pytest.mark.parametrize("weighting", ["none", "inverse_sqrt"])
def test_matches_the_general_form_of_rac(weighting):
    assert_matches(
        LogitAdjustedLoss, reference.adjusted, tau=0.7, offset=[0.3, -1.0, 2.0, 0.0, -0.5], weighting=weighting
    )


def test_an_offset_of_log_priors_is_the_default():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    offset = ClassCounts(COUNTS).log_prior().tolist()
    torch.testing.assert_close(
        LogitAdjustedLoss(COUNTS, offset=offset)(logits, target), LogitAdjustedLoss(COUNTS)(logits, target)
    )


def test_an_offset_survives_pickle_and_spec_and_is_checked():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    loss = LogitAdjustedLoss(COUNTS, offset=[0.3, -1.0, 2.0, 0.0, -0.5])
    for twin in (pickle.loads(pickle.dumps(loss)), build(spec_of(loss)).bind_class_counts(COUNTS)):
        torch.testing.assert_close(twin(logits, target), loss(logits, target))
    with pytest.raises(LongTailError, match="offset for 2 classes but the logits have 5"):
        LogitAdjustedLoss(COUNTS, offset=[0.0, 1.0])(logits, target)


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
