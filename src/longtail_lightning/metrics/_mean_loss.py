"""Mean loss over an evaluation, exact over unequal batches and ranks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """Sum of losses over number of samples. NaN stays NaN, where torchmetrics' mean would leave it out."""

    is_differentiable: ClassVar[bool] = False
    higher_is_better: ClassVar[bool] = False
    full_state_update: ClassVar[bool] = False

    total: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mean_loss: Tensor, samples: int) -> None:
        """Add a batch: its mean loss and its size."""
        self.total += mean_loss.detach() * samples
        self.samples += samples

    def compute(self) -> Tensor:
        """The mean; NaN before the first update."""
        return self.total / self.samples
