"""Feature distillation (Iscen et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning.losses import functional
from longtail_lightning.losses._base import Reduction, checked_reduction, in_full_precision, reduce
from longtail_lightning.losses._pair import matched


class FeatureDistillationLoss(nn.Module):
    r"""One minus the cosine between the features of a student and those of its teachers.

    **What it changes.** The student follows how the teacher sees an image, not how it classifies it:
    the teacher's bias toward the head classes sits in its classifier and is left behind.

    **Formula.** \(1 - \cos(v, \hat v)\), with \(\hat v = [\hat v^1 / \lVert \hat v^1 \rVert, \dots,
    \hat v^K / \lVert \hat v^K \rVert]\) for K teachers.

    **Shapes.** student `(batch, D)`; teacher `(batch, D)`, or one `(batch, D_k)` per teacher with the
    \(D_k\) adding up to D. Teachers get no gradient.

    **When it helps, when it hurts.** For a student trained with class-balanced sampling after
    teachers trained without; the paper adds it to \((1 - \alpha)\) cross-entropy with factor
    \(\alpha \beta\), \(\alpha = 0.4\) and \(\beta = 100\). With several teachers the student needs a
    projection to their summed width, and its classifier belongs on top of the projection.

    **Classes without images** do not enter.

    Args:
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = FeatureDistillationLoss()
        >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])).item()
        1.0
        >>> two_teachers = [torch.tensor([[5.0]]), torch.tensor([[0.1]])]
        >>> round(loss(torch.tensor([[1.0, 1.0]]), two_teachers).item(), 6)
        0.0

    **Paper.** Iscen et al., Class-Balanced Distillation for Long-Tailed Visual Recognition, BMVC 2021, eq. 2 and 4.

    **Differences from the authors' code.** None. A public port normalizes over the batch and
    classifies from the features before the projection, and its students end below their teachers.
    """

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction: Reduction = checked_reduction(reduction)

    def forward(self, student: Tensor, teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """Loss of a batch of features."""
        with torch.autocast(student.device.type, enabled=False):
            if not isinstance(teacher, Tensor):
                teacher = torch.cat([F.normalize(in_full_precision(features), dim=1) for features in teacher], dim=1)
            student, teacher = matched(type(self).__name__, student, teacher)
            return reduce(functional.feature_distillation(student, teacher), self.reduction)
