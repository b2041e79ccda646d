"""How far confidence is from accuracy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning.metrics.class_accuracy import check_batch, no_answer, warn_of_nan


class ExpectedCalibrationError(Metric):
    r"""Expected calibration error of the predicted class, with equal-width bins.

    **Formula.** \(\sum_b \frac{|B_b|}{N} \left| \text{acc}(B_b) - \text{conf}(B_b) \right|\).

    **Shapes.** logits `(batch, C)`, target `(batch,)`.

    Args:
        num_classes: number of classes.
        num_bins: number of confidence bins; 15 is usual.

    Examples:
        >>> metric = ExpectedCalibrationError(num_classes=2)
        >>> metric.update(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
        >>> metric.compute()
        tensor(0.)

    **Outputs that are NaN** count as wrong answers of full confidence, and `compute` warns of them.

    **Paper.** Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3.

    **Differences from the authors' code.** Keeps sums per bin instead of all confidences, so memory
    does not grow with the test set.
    """

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False

    confidence: Tensor
    not_a_number: Tensor
    correct: Tensor
    support: Tensor

    def __init__(self, num_classes: int, num_bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_whole(self, "num_classes", num_classes, 1)
        require_whole(self, "num_bins", num_bins, 1)
        self.num_classes = num_classes
        self.num_bins = num_bins
        self.add_state("confidence", torch.zeros(num_bins), dist_reduce_fx="sum")
        self.add_state("not_a_number", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for state in ("correct", "support"):
            self.add_state(state, torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch of logits `(batch, num_classes)` and true classes `(batch,)`."""
        check_batch(type(self).__name__, logits, target, self.num_classes)
        if logits.ndim != 2:
            raise LongTailError("ExpectedCalibrationError needs logits (batch, num_classes), got predicted classes.")
        logits = logits.float()
        nan = no_answer(logits)
        self.not_a_number += nan.sum()
        # An infinite logit is as certain as the largest number.
        largest = torch.finfo(logits.dtype).max
        logits = logits.clamp(-largest, largest).masked_fill(nan[:, None], 0)
        confidence, predicted = logits.softmax(1).max(1)
        confidence, predicted = confidence.masked_fill(nan, 1), predicted.masked_fill(nan, -1)
        # Bins are (lower, upper], as in the paper.
        row = (confidence * self.num_bins).ceil().long().sub(1).clamp(0, self.num_bins - 1)
        # float32 also where the module, and with it this state, was cast to half precision.
        self.confidence = self.confidence.float().index_add(0, row, confidence)
        self.correct.index_add_(0, row, (predicted == target).long())
        self.support.index_add_(0, row, torch.ones_like(row))

    def compute(self) -> Tensor:
        """One number; NaN before the first update."""
        warn_of_nan(self.not_a_number, self.support.sum())
        return (self.correct - self.confidence).abs().sum() / self.support.sum()
