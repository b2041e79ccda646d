"""Accuracy of many-, medium- and few-shot classes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, ClassCountsLike, Convention
from longtail_lightning.metrics.class_accuracy import ClassAccuracy


class ShotAccuracy(ClassAccuracy):
    r"""Accuracy on all, many-, medium- and few-shot classes, as fractions.

    **What it changes.** Public code has four definitions; here they are explicit. A group's
    accuracy is the mean over its classes of the per-class accuracy. A class without test images is
    left out, never counted as 0, and an empty group is NaN. Classes are split by their number of
    *training* images.

    **Formula.** \(\frac{1}{|G'|} \sum_{c \in G'} \frac{\text{correct}_c}{\text{images}_c}\),
    with \(G'\) the classes of the group that have test images.

    **Shapes.** logits `(batch, C)` or predictions `(batch,)`; target `(batch,)`.

    Args:
        class_counts: training images per class.
        top_k: an answer is right when the class is among the k highest logits.
        many: classes with more images are many-shot.
        few: classes with fewer images are few-shot.
        convention: side of the bounds, `"kang"` (>, <) or `"oltr"` (>=, <=).
        average: what `"acc"` is: `"macro"`, the mean over classes like the groups, or `"micro"`,
            the fraction of right answers. The same on a balanced test set.

    Examples:
        >>> metric = ShotAccuracy(class_counts=[500, 50, 5])
        >>> metric.update(torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 1, 2]))
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'acc': 0.667, 'acc_many': 1.0, 'acc_medium': 1.0, 'acc_few': 0.0}

    **Paper.** Bounds of Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019; side of the
    bounds of Kang et al., ICLR 2020.

    **Differences from the authors' code.** Kang et al. print 0 for an empty group and take the
    classes from the test labels.
    """

    def __init__(
        self,
        class_counts: ClassCountsLike,
        top_k: int = 1,
        many: int = 100,
        few: int = 20,
        *,
        convention: Convention = "kang",
        average: Literal["macro", "micro"] = "macro",
        **kwargs: Any,
    ) -> None:
        counts = ClassCounts(class_counts)
        super().__init__(counts.num_classes, top_k, **kwargs)
        if average not in ("macro", "micro"):
            raise LongTailError(f"Unknown average {average!r}: choose 'macro' or 'micro'.")
        self.average = average
        for name, index in counts.shots(many=many, few=few, convention=convention):
            self.register_buffer(f"_{name}", index, persistent=False)

    def compute(self) -> dict[str, Tensor]:
        """`acc`, `acc_many`, `acc_medium` and `acc_few`."""
        per_class = self.per_class()
        if self.average == "macro":
            overall = per_class.nanmean()
        else:
            overall = self.correct.sum() / torch.where(self.support.sum() > 0, self.support.sum(), torch.nan)
        groups = {f"acc_{name}": per_class[getattr(self, f"_{name}")].nanmean() for name in ("many", "medium", "few")}
        return {"acc": overall, **groups}
