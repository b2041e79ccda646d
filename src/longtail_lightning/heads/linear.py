"""The plain linear classifier."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning.heads._base import Head


class LinearHead(Head):
    r"""One weight vector and one bias per class.

    **What it changes.** Nothing: the baseline classifier. On a long tail, the norm of a class's
    weight vector grows with its number of images, which is what \(\tau\)-normalization corrects.

    **Formula.** \(z_c = w_c^\top f + b_c\).

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** The default; see `CosineHead` for one whose logits do not
    depend on norms.

    Args:
        num_features: width of the features.
        num_classes: number of classes.
        bias: whether to learn \(b\).

    Examples:
        >>> import torch
        >>> LinearHead(64, 10)(torch.zeros(2, 64)).shape
        torch.Size([2, 10])

    **Paper.** Kang et al., ICLR 2020, section 4.

    **Differences from the authors' code.** None; initialized like `nn.Linear`.
    """

    def __init__(self, num_features: int, num_classes: int, *, bias: bool = True) -> None:
        super().__init__(num_features, num_classes)
        initial = nn.Linear(num_features, num_classes, bias=bias)
        self.weight = initial.weight
        self.bias = initial.bias

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)

    def spec_args(self) -> dict[str, bool]:
        """The argument behind `self.bias`, which is a parameter or None."""
        return {"bias": self.bias is not None}
