"""What the losses between a student and a teacher share."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses._base import in_full_precision


def matched(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both in full precision, the teacher as a constant; refused when their shapes differ."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise LongTailError(
            f"{name} expects student and teacher of one shape (batch, width), got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}: project the student to the teacher's width."
        )
    student = in_full_precision(student)
    return student, teacher.detach().to(student.dtype)
