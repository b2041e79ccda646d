from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import LogitDistillationLoss
from tests.reference import losses as reference


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_matches_the_paper_forward_and_gradient(temperature):
    teacher = torch.randn(5, 6, dtype=torch.float64)
    ours = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    value = LogitDistillationLoss(temperature=temperature, reduction="none")(ours, teacher)
    expected = reference.logit_distillation(theirs, teacher, temperature)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_has_the_gradient_of_the_cross_entropy_in_the_paper():
    student, teacher = torch.randn(5, 6, requires_grad=True), torch.randn(5, 6)
    ours = torch.autograd.grad(LogitDistillationLoss(temperature=3.0)(student, teacher), student)
    theirs = torch.autograd.grad(9 * F.cross_entropy(student / 3, (teacher / 3).softmax(1)), student)
    torch.testing.assert_close(ours, theirs)


def test_a_constant_added_to_either_changes_nothing():
    student, teacher = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    loss = LogitDistillationLoss()
    torch.testing.assert_close(loss(student + 7, teacher - 3), loss(student, teacher))


def test_bad_input_is_named_with_the_fix():
    with pytest.raises(LongTailError, match="finite temperature above 0"):
        LogitDistillationLoss(temperature=0.0)
    with pytest.raises(LongTailError, match="one shape"):
        LogitDistillationLoss()(torch.zeros(5, 6), torch.zeros(5, 7))
