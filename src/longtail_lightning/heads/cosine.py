"""The cosine classifier."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._number_range import require_number
from longtail_lightning.heads._base import Head


class CosineHead(Head):
    r"""Scaled cosine between the features and one direction per class.

    **What it changes.** The norms of weights and features, which favor the head classes, no longer
    enter the logits.

    **Formula.** \(z_c = s \cdot \frac{w_c^\top f}{\lVert w_c \rVert \, \lVert f \rVert}\).

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** Needed by margin losses such as LDAM and by prototypes. With a
    fixed scale that is small for many classes the softmax cannot become confident: the probability
    of the right class is at most \(1 / (1 + (C - 1) e^{-2s})\).

    Args:
        num_features: width of the features.
        num_classes: number of classes.
        scale: \(s\), or its initial value.
        learnable_scale: whether \(s\) is learned.

    Examples:
        >>> import torch
        >>> head = CosineHead(64, 10, scale=30.0, learnable_scale=False)
        >>> bool(head(torch.randn(8, 64)).abs().max() <= 30.0)
        True

    **Paper.** Gidaris and Komodakis, Dynamic Few-Shot Visual Learning without Forgetting, CVPR 2018 (learnable
    scale); Kang et al., ICLR 2020, appendix B.7.

    **Differences from the authors' code.** The public ports of class-balanced distillation normalize the
    weights over the classes instead of over the features.
    """

    def __init__(
        self, num_features: int, num_classes: int, *, scale: float = 16.0, learnable_scale: bool = True
    ) -> None:
        super().__init__(num_features, num_classes)
        require_number(self, "scale", scale, 0, above=True)
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.learnable_scale = learnable_scale
        self._initial_scale = float(scale)
        self.scale: Tensor
        if learnable_scale:
            self.scale = nn.Parameter(torch.tensor(float(scale)))
        else:
            self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))

    def spec_args(self) -> dict[str, float]:
        """The argument behind `self.scale`, whose learned value is in the state dict."""
        return {"scale": self._initial_scale}
