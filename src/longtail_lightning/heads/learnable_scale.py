"""Learnable weight scaling (LWS): one factor per class on a frozen classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.heads._base import Head
from longtail_lightning.heads._frozen import frozen_copy, linear_head
from longtail_lightning.heads.linear import LinearHead


class LearnableScaleHead(Head):
    r"""Learn how long each weight vector of a trained classifier should be, and nothing else.

    **What it changes.** The directions \(w_c\) stay as the joint training left them; class-balanced
    training sets their lengths. It has as many parameters as there are classes.

    **Formula.** \(z_c = s_c \, w_c^\top f + b_c\), \(s_c = 1\) at first; with `scale_bias`,
    \(z_c = s_c \, (w_c^\top f + b_c)\). Only \(s\) has gradients.

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** Where re-training the classifier overfits the few images of the
    tail. It cannot turn a direction that is wrong.

    **Classes without images** are never drawn by a class-balanced sampler; their factor only sinks, as
    that of a wrong answer.

    Args:
        head: the trained head, or an `nn.Linear`. It is copied: training the factors changes nothing
            in the original. Of a head without a `bias` of its own the logits are scaled as a whole.
        scale_bias: whether the factor applies to the bias too.

    Examples:
        >>> trained = LinearHead(64, 10)
        >>> head = LearnableScaleHead(trained)
        >>> [name for name, p in head.named_parameters() if p.requires_grad]
        ['scale']
        >>> features = torch.randn(8, 64)
        >>> torch.equal(head(features), trained(features))
        True

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, eq. 4 and section 4.

    **Differences from the authors' code.** Theirs multiplies the bias too, which the paper's formula
    does not: `scale_bias=True`.
    """

    def __init__(self, head: nn.Module, *, scale_bias: bool = False) -> None:
        inner = frozen_copy(head, "LearnableScaleHead")
        super().__init__(inner.num_features, inner.num_classes)
        self.head = inner
        self.scale_bias = scale_bias
        like = next(inner.parameters(), torch.empty(()))
        self.scale = nn.Parameter(torch.ones(inner.num_classes, dtype=like.dtype, device=like.device))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        bias = getattr(self.head, "bias", None)
        if self.scale_bias or not isinstance(bias, Tensor):
            return logits * self.scale
        return logits * self.scale + bias * (1 - self.scale)

    def to_linear(self) -> LinearHead:
        """The same logits from an ordinary `LinearHead`: nothing to pay at inference."""
        if not isinstance(self.head, LinearHead):
            raise LongTailError(f"Only a scaled LinearHead is linear, this one is a {type(self.head).__name__}.")
        bias: Tensor | None = self.head.bias
        if bias is not None and self.scale_bias:
            bias = bias * self.scale
        return linear_head(self.head.weight * self.scale[:, None], bias)
