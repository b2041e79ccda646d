"""A trained head that another one builds on and no longer changes."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from longtail_lightning._errors import LongTailError
from longtail_lightning.heads._base import Head
from longtail_lightning.heads.linear import LinearHead


def frozen_copy(head: nn.Module, owner: str) -> Head:
    """A copy of a trained head, without gradients; the original stays as it is.

    An `nn.Linear` becomes a `LinearHead`, which checkpoints can describe; so does a linear head whose weight is
    computed, as `weight_norm` does.
    """
    if isinstance(head, nn.Linear) or (isinstance(head, LinearHead) and is_parametrized(head)):
        head = linear_head(head.weight, head.bias)
    if not isinstance(head, Head):
        raise LongTailError(
            f"{owner} builds on a trained head of this library or an nn.Linear, got {type(head).__name__}: "
            "give it LinearHead(num_features, num_classes) with the trained weights."
        )
    copied: Head = copy.deepcopy(head)
    # As any new module, in training mode: Lightning warns of others.
    return copied.requires_grad_(False).train()


def linear_head(weight: torch.Tensor, bias: torch.Tensor | None) -> LinearHead:
    """A `LinearHead` with copies of these weights."""
    made = LinearHead(weight.shape[1], weight.shape[0], bias=bias is not None).to(weight)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made
