"""Distillation by groups of classes (Kim 2026)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCounts, ClassCountsLike, Convention
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import Reduction, checked_reduction, reduce, unbound
from longtail_lightning.losses._pair import matched


class GroupDistillationLoss(nn.Module):
    r"""Divergence from a teacher that is apart for many-, medium- and few-shot classes, without its bias to the first.

    **What it changes.** The divergence of two predictions is that of the groups' probabilities, plus that within each
    group, weighted by how probable the teacher finds the group. A teacher trained on a long tail finds the few-shot
    group improbable, so it hands on its bias, and nothing about that group. Here the groups' probabilities are
    calibrated to be alike over the batch, and each group counts as much.

    **Formula.** With \(b_g = \sum_{c \in g} p_c\) and \(p_{c|g} = p_c / b_g\) of \(p = \mathrm{softmax}(z / T)\), and
    \(\hat b_g \propto b^{teacher}_g / \mathrm{mean}_{batch}(b^{teacher}_g)\):
    \(T^2 \, (\lambda_{cross} \, \mathrm{KL}(\hat b \Vert b) + \lambda_{within} \sum_g \mathrm{KL}(p^{teacher}_{\cdot|g}
    \Vert p_{\cdot|g}))\).

    **Shapes.** student and teacher `(batch, C)`. The teacher gets no gradient.

    **When it helps, when it hurts.** In the place of `LogitDistillationLoss` where the teacher was trained on the data
    as they are. A batch must be large enough to know how probable a group is; each process calibrates on its own.

    **Classes without images** belong to the few-shot group; a group without classes is left out.

    Args:
        class_counts: training images per class; may be bound later.
        temperature: \(T\); above 1 it softens both predictions.
        cross: \(\lambda_{cross}\).
        within: \(\lambda_{within}\).
        many: classes with more training images are many-shot.
        few: classes with fewer training images are few-shot.
        convention: side of these bounds, `"kang"` (>, <) or `"oltr"` (>=, <=).
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = GroupDistillationLoss([500, 300, 50, 5])
        >>> teacher = torch.tensor([[3.0, 1.0, 0.0, -2.0], [-1.0, 0.0, 3.0, 1.0]])
        >>> bool(loss(teacher, teacher) > 0)  # a student that repeats the teacher repeats its bias
        True

    **Paper.** Kim, Distilling Balanced Knowledge from a Biased Teacher, CVPR 2026 (LTKD).

    **Differences from the authors' code.** Not known to us: the formula is that of the paper's text, the calibration
    over the batch as we read it.
    """

    class_counts: Tensor | None

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        temperature: float = 2.0,
        cross: float = 1.0,
        within: float = 1.0,
        many: int = 100,
        few: int = 20,
        convention: Convention = "kang",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        require_number(self, "temperature", temperature, 0, above=True)
        require_number(self, "cross", cross, 0)
        require_number(self, "within", within, 0)
        self.temperature, self.cross, self.within = temperature, cross, within
        self.many, self.few, self.convention = many, few, convention
        self.reduction: Reduction = checked_reduction(reduction)
        self.register_buffer("class_counts", None, persistent=False)
        if class_counts is not None:
            self.bind_class_counts(class_counts)

    def bind_class_counts(self, class_counts: ClassCountsLike) -> Self:
        """Give the loss its class counts; the LightningModules call this for you."""
        counts = ClassCounts(class_counts)
        shots = counts.shots(self.many, self.few, convention=self.convention)
        self._groups = [index for _, index in shots if len(index)]
        self.class_counts = counts.tensor if self.class_counts is None else counts.tensor.to(self.class_counts.device)
        return self

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Loss of a batch of logits."""
        if self.class_counts is None:
            raise unbound(type(self).__name__)
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = matched(type(self).__name__, student, teacher)
            groups = [index.to(student.device, non_blocking=True) for index in self._groups]
            losses = functional.group_distillation(
                student, teacher, groups, temperature=self.temperature, cross=self.cross, within=self.within
            )
            return reduce(losses, self.reduction)
