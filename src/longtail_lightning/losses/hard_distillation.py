"""Distillation of a teacher's answers (Touvron et al. 2021, Rangwani et al. 2024)."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses._base import Reduction
from longtail_lightning.losses._pair import matched
from longtail_lightning.losses.cross_entropy import CrossEntropyLoss


class HardDistillationLoss(nn.Module):
    r"""Cross-entropy with the class that the teacher finds most likely in the place of the label, re-weighted.

    **What it changes.** The student repeats the teacher's answers, and those that name rare classes count more. This
    is how DeiT-LT teaches a vision transformer by a convolutional network.

    **Formula.** \(-w_{\hat y} \log \mathrm{softmax}(z)_{\hat y}\), with \(\hat y = \arg\max_c \hat z_c\).

    **Shapes.** student and teacher `(batch, C)`. The teacher gets no gradient.

    **When it helps, when it hurts.** Beside labels, for images that are augmented so strongly that the teacher knows
    better what can still be seen. What the teacher gets wrong, the student learns.

    **Classes without images** have the largest weight; a teacher that never names them gives it to nobody.

    Args:
        class_counts: training images per class; may be bound later.
        weighting: of the answers by class, see `LongTailLoss`; may be assigned during training.
        label_smoothing: share of the answer that is spread over all classes.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = HardDistillationLoss([90, 10], weighting="none")
        >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[9.0, 1.0]])
        >>> bool(loss(student, teacher) == CrossEntropyLoss()(student, torch.tensor([0])))
        True

    **Paper.** Touvron et al., Training Data-efficient Image Transformers, ICML 2021; Rangwani et al., DeiT-LT, CVPR
    2024, who re-weight it.

    **Differences from the authors' code.** Theirs reads the answer of the student from a token of its own, whose head
    is averaged with the other one in evaluation. Here it is read from the student's logits.
    """

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        weighting: str = "effective",
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.loss = CrossEntropyLoss(
            class_counts, weighting=weighting, label_smoothing=label_smoothing, reduction=reduction
        )
        self.label_smoothing = label_smoothing

    @property
    def weighting(self) -> str:
        """How answers are weighted by class."""
        return self.loss.weighting

    @weighting.setter
    def weighting(self, weighting: str) -> None:
        self.loss.weighting = weighting

    @property
    def reduction(self) -> Reduction:
        """Over the batch."""
        return self.loss.reduction

    @reduction.setter
    def reduction(self, reduction: Reduction) -> None:
        self.loss.reduction = reduction

    @property
    def class_counts(self) -> Tensor | None:
        """Training images per class, once they are bound."""
        return self.loss.class_counts

    def bind_class_counts(self, class_counts: ClassCountsLike) -> Self:
        """Give the loss its class counts; the LightningModules call this for you."""
        self.loss.bind_class_counts(class_counts)
        return self

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Loss of a batch of logits."""
        student, teacher = matched(type(self).__name__, student, teacher)
        loss: Tensor = self.loss(student, teacher.argmax(1))
        return loss
