from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import FeatureDistillationLoss
from tests.reference import losses as reference


@pytest.mark.parametrize("widths", [[6], [2, 4], [1, 2, 3]])
def test_matches_the_paper_forward_and_gradient(widths):
    teachers = [torch.randn(5, width, dtype=torch.float64) for width in widths]
    ours = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    value = FeatureDistillationLoss(reduction="none")(ours, teachers)
    expected = reference.feature_distillation(theirs, teachers)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_one_teacher_may_come_alone():
    student, teacher = torch.randn(5, 6), torch.randn(5, 6)
    loss = FeatureDistillationLoss()
    torch.testing.assert_close(loss(student, teacher), loss(student, [teacher]))


def test_each_teacher_weighs_the_same_whatever_its_norm():
    student, one, two = torch.randn(5, 6), torch.randn(5, 3), torch.randn(5, 3)
    loss = FeatureDistillationLoss()
    torch.testing.assert_close(loss(student, [100 * one, two]), loss(student, [one, two]))


def test_norms_are_taken_over_the_features():
    # A public port normalizes along the wrong axis: then one image's loss depends on the others.
    student, teacher = torch.randn(5, 6), torch.randn(5, 6)
    loss = FeatureDistillationLoss(reduction="none")
    torch.testing.assert_close(loss(student, teacher)[:2], loss(student[:2], teacher[:2]))


def test_the_teacher_gets_no_gradient():
    student, teacher = torch.randn(5, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    FeatureDistillationLoss()(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_a_width_that_differs_is_named_with_the_fix():
    with pytest.raises(LongTailError, match=r"got \(5, 6\) and \(5, 7\): project the student"):
        FeatureDistillationLoss()(torch.zeros(5, 6), [torch.zeros(5, 3), torch.zeros(5, 4)])
