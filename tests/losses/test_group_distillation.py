from __future__ import annotations

import pytest
import torch

from longtail_lightning import GroupDistillationLoss, LogitDistillationLoss, LongTailError
from tests.reference import losses as reference

COUNTS = [500, 3, 50, 200, 7, 60, 20]
GROUPS = [[0, 3], [2, 5, 6], [1, 4]]


def rows(seed, size=5):
    return torch.randn(size, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("temperature", "cross", "within"), [(1.0, 1.0, 1.0), (4.0, 0.5, 2.0), (2.0, 0.0, 1.0)])
def test_matches_the_paper_forward_and_gradient(temperature, cross, within):
    teacher, ours = rows(0), rows(1).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    options = {"temperature": temperature, "cross": cross, "within": within}
    value = GroupDistillationLoss(COUNTS, reduction="none", **options)(ours, teacher)
    expected = reference.group_distillation(theirs, teacher, GROUPS, **options)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_of_a_single_group_it_is_the_divergence():
    teacher, student = rows(0), rows(1)
    expected = LogitDistillationLoss(temperature=3.0)(student, teacher)
    torch.testing.assert_close(GroupDistillationLoss([500] * 7, temperature=3.0)(student, teacher), expected)


def test_a_teacher_that_finds_rare_classes_improbable_teaches_them_all_the_same():
    teacher, student = rows(0), torch.zeros(5, 7, dtype=torch.float64, requires_grad=True)
    biased = teacher.clone()
    biased[:, [1, 4]] -= 9
    loss = GroupDistillationLoss(COUNTS)
    torch.testing.assert_close(
        torch.autograd.grad(loss(student, biased), student),
        torch.autograd.grad(loss(student, teacher), student),
        atol=0.02,
        rtol=0.1,
    )


def test_the_best_student_finds_all_groups_as_probable():
    teacher = rows(0, 64)
    teacher[:, [0, 3]] += 3
    student = torch.zeros(64, 7, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([student], 0.1)
    loss = GroupDistillationLoss(COUNTS, temperature=1.0)
    for _ in range(400):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    mass = torch.stack([student.softmax(1)[:, group].sum(1).mean() for group in GROUPS])
    assert mass.max() < 0.45
    assert teacher.softmax(1)[:, GROUPS[0]].sum(1).mean() > 0.8


def test_classes_that_a_teacher_holds_impossible():
    teacher, student = rows(0), rows(1).requires_grad_()
    teacher[0, [1, 4]] = -torch.inf  # a group
    teacher[:, 3] = -torch.inf
    GroupDistillationLoss(COUNTS)(student, teacher).backward()
    assert student.grad.isfinite().all()
    teacher[:, [1, 4]] = -torch.inf  # in the whole batch
    assert GroupDistillationLoss(COUNTS)(student, teacher).isfinite()


def test_bad_input_is_named_with_the_fix():
    with pytest.raises(LongTailError, match="finite temperature above 0"):
        GroupDistillationLoss(temperature=0.0)
    with pytest.raises(LongTailError, match="needs class_counts"):
        GroupDistillationLoss()(torch.zeros(5, 6), torch.zeros(5, 6))
    with pytest.raises(LongTailError, match="one shape"):
        GroupDistillationLoss([3] * 6)(torch.zeros(5, 6), torch.zeros(5, 7))
