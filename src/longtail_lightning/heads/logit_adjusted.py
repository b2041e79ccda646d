"""A trained classifier whose logits are moved by the class frequencies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCounts, ClassCountsLike
from longtail_lightning.heads._base import Head
from longtail_lightning.heads._frozen import frozen_copy


class LogitAdjustedHead(Head):
    r"""Lower the logits of frequent classes after the training, and do nothing else.

    **What it changes.** How often a class is named; not how well it is told apart from others. So it is the control
    for every method that raises rare classes: what it reaches needs no better classifier.

    **Formula.** \(z_c - \tau \log \pi_c\), with \(\pi_c\) the training frequency of class \(c\).

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** On classifiers that were trained with plain cross-entropy. One that is
    balanced already is moved too far.

    **Classes without images** count as classes with one.

    Args:
        head: the trained head, which is copied.
        class_counts: training images per class.
        tau: strength \(\tau\).

    Examples:
        >>> import torch
        >>> from longtail_lightning import LinearHead
        >>> head = LogitAdjustedHead(LinearHead(8, 2), [90, 10])
        >>> difference = head(torch.zeros(1, 8)) - head.head(torch.zeros(1, 8))
        >>> [round(value, 2) for value in difference[0].tolist()]
        [0.11, 2.3]

    **Paper.** Menon et al., Long-tail learning via logit adjustment, ICLR 2021, eq. 9.

    **Differences from the paper.** None.
    """

    class_counts: Tensor
    offset: Tensor

    def __init__(self, head: nn.Module, class_counts: ClassCountsLike, *, tau: float = 1.0) -> None:
        inner = frozen_copy(head, "LogitAdjustedHead")
        super().__init__(inner.num_features, inner.num_classes)
        require_number(self, "tau", tau)
        self.head = inner
        self.tau = float(tau)
        self.bind_class_counts(class_counts)

    def bind_class_counts(self, class_counts: ClassCountsLike) -> Self:
        """Give the head other class counts; a LightningModule does when its classes change."""
        counts = ClassCounts(class_counts)
        if len(counts) != self.num_classes:
            raise LongTailError(f"class_counts are of {len(counts)} classes, the head has {self.num_classes}.")
        place = next(self.head.parameters(), torch.empty(0)).device
        self.register_buffer("class_counts", counts.tensor.to(place), persistent=False)
        self.register_buffer("offset", -self.tau * counts.log_prior().to(place), persistent=False)
        return self

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits + self.offset.to(logits)
