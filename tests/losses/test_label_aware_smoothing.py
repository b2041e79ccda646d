from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import CrossEntropyLoss, LabelAwareSmoothingLoss
from tests.losses.compare import COUNTS, assert_matches
from tests.reference import losses as reference


@pytest.mark.parametrize("shape", ["concave", "linear", "convex"])
@pytest.mark.parametrize(("head", "tail"), [(0.3, 0.0), (0.4, 0.1)])
def test_matches_the_paper_forward_and_gradient(shape, head, tail):
    assert_matches(LabelAwareSmoothingLoss, reference.label_aware_smoothing, head=head, tail=tail, shape=shape)


def test_the_same_smoothing_everywhere_is_spread_over_the_other_classes():
    # F.cross_entropy, and the authors' code, spread epsilon over all classes, the target among them.
    logits, target = torch.randn(8, 5, dtype=torch.float64), torch.randint(5, (8,))
    ours = LabelAwareSmoothingLoss(COUNTS, head=0.2, tail=0.2)(logits, target)
    torch.testing.assert_close(ours, CrossEntropyLoss(label_smoothing=0.25)(logits, target))


def test_smoothing_grows_with_the_class():
    confident = 30 * torch.eye(5)
    losses = LabelAwareSmoothingLoss(COUNTS, reduction="none")(confident, torch.arange(5))
    assert bool((losses.diff() < 0).all())


def test_an_unknown_shape_is_refused():
    with pytest.raises(LongTailError, match="choose 'concave', 'linear' or 'convex'"):
        LabelAwareSmoothingLoss(shape="square")
