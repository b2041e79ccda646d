"""Logit distillation (Hinton et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longtail_lightning._number_range import require_number
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import Reduction, checked_reduction, reduce
from longtail_lightning.losses._pair import matched


class LogitDistillationLoss(nn.Module):
    r"""Divergence between the softened predictions of a student and those of its teacher.

    **What it changes.** The student learns which wrong answers the teacher finds likely.

    **Formula.** \(T^2 \, \mathrm{KL}(\mathrm{softmax}(\hat z / T) \,\Vert\, \mathrm{softmax}(z / T))\).

    **Shapes.** student and teacher `(batch, C)`. The teacher gets no gradient.

    **When it helps, when it hurts.** Between experts or from a calibrated teacher. A teacher trained
    on a long tail hands on its bias toward the head; see `FeatureDistillationLoss`.

    **Classes without images** are classes like the others, as the teacher sees them.

    Args:
        temperature: \(T\); above 1 it softens both predictions.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = LogitDistillationLoss(temperature=2.0)
        >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
        >>> loss(logits, logits + 5).item()
        0.0

    **Paper.** Hinton et al., Distilling the Knowledge in a Neural Network, 2015; Iscen et al.,
    Class-Balanced Distillation for Long-Tailed Visual Recognition, BMVC 2021, eq. 3.

    **Differences from the authors' code.** Eq. 3 has the cross-entropy of the two predictions. The
    divergence differs from it by the teacher's entropy, has the same gradient, and is 0 for a
    perfect student.
    """

    def __init__(self, *, temperature: float = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        require_number(self, "temperature", temperature, 0, above=True)
        self.temperature = temperature
        self.reduction: Reduction = checked_reduction(reduction)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Loss of a batch of logits."""
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = matched(type(self).__name__, student, teacher)
            return reduce(functional.logit_distillation(student, teacher, temperature=self.temperature), self.reduction)
