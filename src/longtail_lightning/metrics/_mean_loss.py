"""Mean loss over an evaluation, exact over unequal batches and ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """Sum of losses over number of samples. NaN stays NaN, where torchmetrics' mean would leave it out."""

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False

    total: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mean_loss: Tensor, samples: int) -> None:
        """Add a batch: its mean loss and its size."""
        # float32 also where the module, and with it this state, was cast to half precision.
        self.total = self.total.float() + mean_loss.detach().float() * samples
        self.samples += samples

    def compute(self) -> Tensor:
        """The mean; NaN before the first update."""
        return self.total / self.samples
