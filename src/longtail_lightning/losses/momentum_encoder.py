"""The slow copy of an encoder (He et al. 2020)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from longtail_lightning._number_range import require_number


class MomentumEncoder(nn.Module):
    r"""A copy of an encoder that follows it slowly and gets no gradient.

    **What it changes.** Keys of past batches stay comparable with those of the present one, because
    the encoder that made them has hardly moved.

    **Formula.** \(\theta_k \leftarrow m \, \theta_k + (1 - m) \, \theta_q\) at each `update`.

    **Shapes.** Those of the encoder.

    **When it helps, when it hurts.** Needed by `ParametricContrastiveLoss`. Call `update(encoder)`
    once per training step, before the keys are made.

    **Classes without images** do not enter.

    Args:
        encoder: what to copy; it stays untouched.
        momentum: \(m\), how slowly the copy follows.

    Examples:
        >>> import torch
        >>> encoder = torch.nn.Linear(2, 1)
        >>> slow = MomentumEncoder(encoder, momentum=0.9)
        >>> slow.update(encoder)
        >>> slow(torch.zeros(1, 2)).requires_grad
        False

    **Paper.** He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, eq. 2.

    **Differences from the authors' code.** None: running statistics, which the copy keeps of its own
    forward passes, are not averaged.
    """

    def __init__(self, encoder: nn.Module, *, momentum: float = 0.999) -> None:
        super().__init__()
        require_number(self, "momentum", momentum, 0, 1)
        self.momentum = momentum
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the copy makes of the inputs, without gradient."""
        return self.encoder(*inputs)

    @torch.no_grad()
    def update(self, encoder: nn.Module) -> None:
        """Move a step toward the encoder."""
        for slow, fast in zip(self.encoder.parameters(), encoder.parameters()):
            slow.lerp_(fast.to(slow.dtype), 1 - self.momentum)
