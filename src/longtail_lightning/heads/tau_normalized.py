"""The tau-normalized classifier."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.heads._base import Head
from longtail_lightning.heads._frozen import frozen_copy, linear_head
from longtail_lightning.heads.learnable_scale import LearnableScaleHead
from longtail_lightning.heads.linear import LinearHead

BiasPolicy = Literal["drop", "keep"]


class TauNormalizedHead(Head):
    r"""Divide each weight vector of a trained linear classifier by a power of its norm.

    **What it changes.** After joint training on a long tail the norm of a class's weight vector grows
    with its number of images, so that frequent classes win. This evens the norms out, without any
    training.

    **Formula.** \(z_c = \lVert w_c \rVert^{-\tau} \, w_c^\top f\); with `bias="keep"`, \(+ \, b_c\).
    \(\tau = 0\) leaves the weights as they are, \(\tau = 1\) makes all norms 1.

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** On classifiers that were trained with plain cross-entropy on the
    data as they are. One trained on balanced batches, or with adjusted logits, has even norms
    already. `select_tau` finds \(\tau\) on validation or training features; never choose it on test images.

    **Classes without images** have weights all the same, and are normalized like the others; a weight of
    zero stays zero.

    Args:
        head: the trained `LinearHead` or `nn.Linear`, which is copied.
        tau: strength, a finite number. It can be changed at any time: `head.tau = 0.7`.
        bias: `"drop"`, as in the paper, or `"keep"`.

    Examples:
        >>> head = TauNormalizedHead(LinearHead(64, 10), tau=1.0)
        >>> head.to_linear().weight.norm(dim=1).allclose(torch.ones(10))
        True

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, eq. 3.

    **Differences from the authors' code.** None; other public code leaves the bias in without saying so
    (`bias="keep"`).
    """

    def __init__(self, head: nn.Module, *, tau: float = 1.0, bias: BiasPolicy = "drop") -> None:
        inner = frozen_copy(linear_of(head, "TauNormalizedHead"), "TauNormalizedHead")
        super().__init__(inner.num_features, inner.num_classes)
        check_bias(bias)
        self.head = inner
        self.tau = tau
        self.bias = bias

    @property
    def tau(self) -> float:
        """Strength; checked when assigned."""
        return self._tau

    @tau.setter
    def tau(self, tau: float) -> None:
        # NaN would be the logits of all classes.
        if not isinstance(tau, Real) or not math.isfinite(tau):
            raise LongTailError(f"tau={tau!r} must be a finite number, such as 0.7.")
        self._tau: float = float(tau)

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self._parts()
        # The logits are scaled, not the weights: one set of logits then serves every tau.
        logits = F.linear(features, weight)
        logits = logits * tau_scale(weight, self.tau).to(logits.dtype)
        return logits if bias is None else logits + bias

    def to_linear(self) -> LinearHead:
        """The same logits from an ordinary `LinearHead`: nothing to pay at inference."""
        weight, bias = self._parts()
        return linear_head(weight * tau_scale(weight, self.tau).to(weight.dtype)[:, None], bias)

    def _parts(self) -> tuple[Tensor, Tensor | None]:
        linear: LinearHead = self.head  # type: ignore[assignment]
        return linear.weight, linear.bias if self.bias == "keep" else None


def check_bias(bias: str) -> None:
    """Refuse anything but the two ways with the bias."""
    if bias not in ("drop", "keep"):
        raise LongTailError(f"Unknown bias={bias!r}: choose 'drop', as in the paper, or 'keep'.")


def tau_scale(weight: Tensor, tau: float | Tensor) -> Tensor:
    """The factor of each class, `||w||^-tau`, at least in float32; 0 for a weight of zero, whose logits are 0."""
    norm = weight.to(torch.promote_types(weight.dtype, torch.float32)).norm(dim=1)
    return torch.where(norm > 0, norm.clamp(min=torch.finfo(norm.dtype).tiny).pow(-tau), 0.0)


def linear_of(head: nn.Module, asks: str) -> nn.Module:
    """The linear head whose norms are to be evened out: what a tau-normalized head builds on, or the head itself."""
    if isinstance(head, TauNormalizedHead):
        return head.head
    if isinstance(head, LearnableScaleHead):
        head = head.to_linear()
    if not isinstance(head, (LinearHead, nn.Linear)):
        raise LongTailError(
            f"{asks} needs a linear classifier (LinearHead or nn.Linear), got {type(head).__name__}: "
            "only there do the norms of the weights enter the logits."
        )
    return head
