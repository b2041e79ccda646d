from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longtail_lightning import HardDistillationLoss, LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.losses.weighting import class_weights
from longtail_lightning.modules._loss_of_each import loss_of_each


def test_is_the_weighted_loss_of_the_answers():
    student, teacher = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    loss = HardDistillationLoss().bind_class_counts([90, 9, 1])
    answers = teacher.argmax(1)
    weights = class_weights(torch.tensor([90, 9, 1]), "effective", normalize="global")
    expected = (weights[answers] * F.cross_entropy(student, answers, reduction="none")).mean()
    torch.testing.assert_close(loss(student, teacher), expected.float())
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.any()


def test_describes_itself_and_gives_one_value_per_sample():
    loss = build(spec_of(HardDistillationLoss(weighting="none", label_smoothing=0.1)))
    assert loss.loss.label_smoothing == 0.1
    student, teacher = torch.randn(6, 3), torch.randn(6, 3)
    each = loss_of_each(loss, student, teacher)
    assert each.shape == (6,)
    torch.testing.assert_close(each.mean(), loss(student, teacher))


def test_other_classes():
    with pytest.raises(LongTailError, match="one shape"):
        HardDistillationLoss([5, 3, 1])(torch.zeros(2, 3), torch.zeros(2, 4))
