"""A classifier with hidden layers."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.heads._base import Head


class MLPHead(Head):
    r"""Two or three linear layers with ReLU between them.

    **What it changes.** The boundaries between classes need no longer be straight.

    **Formula.** \(z = W_L \, \mathrm{ReLU}(\dots \mathrm{ReLU}(W_1 f + b_1) \dots) + b_L\) with
    \(L\) = `depth`.

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** In the paper, each further layer loses accuracy, most of it in the
    tail: the features are linearly separable already, and the layers overfit. It is here to compare
    with, and for features that were made for another task.

    Args:
        num_features: width of the features.
        num_classes: number of classes.
        depth: number of linear layers; 1 is `LinearHead`.
        hidden: width of the hidden layers; that of the features by default.

    Examples:
        >>> import torch
        >>> MLPHead(64, 10, depth=3, hidden=128)(torch.zeros(2, 64)).shape
        torch.Size([2, 10])

    **Paper.** Kang et al., ICLR 2020, appendix B.6: 2 and 3 layers, 2048 or 512 hidden units, 10 epochs on
    balanced batches.

    **Differences from the authors' code.** None was released.
    """

    def __init__(self, num_features: int, num_classes: int, *, depth: int = 2, hidden: int | None = None) -> None:
        super().__init__(num_features, num_classes)
        if depth < 1 or (hidden is not None and hidden < 1):
            raise LongTailError(
                f"MLPHead needs depth and hidden of at least 1, got depth={depth}, hidden={hidden}; "
                "the paper has 2 or 3 layers of 2048 or 512."
            )
        self.depth = depth
        self.hidden = hidden
        widths = [num_features, *[hidden or num_features] * (depth - 1)]
        hidden_layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*hidden_layers, nn.Linear(widths[-1], num_classes))

    @property
    def bias(self) -> Tensor:
        """What the last layer adds to the logits."""
        bias: Tensor = self.layers[-1].bias  # type: ignore[assignment]
        return bias

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layers(features)
        return logits
