"""A new head in the place of an old one."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.heads import LinearHead


def in_float(head: nn.Module) -> nn.Module:
    """A copy on the CPU, at least in float32: half precision is too coarse to train in."""
    copied = copy.deepcopy(head).cpu()
    kinds = {p.dtype for p in copied.parameters() if p.is_floating_point()}
    return copied.to(torch.promote_types(kinds.pop(), torch.float32)) if kinds else copied


def replacement_for(pl_module: L.LightningModule, made: nn.Module, old: nn.Module, name: str = "head") -> nn.Module:
    """A new head in the form that a module can hold, on its device and in its type.

    `BaseClassifier` rebuilds any head from its checkpoint. Another class builds only its own kind
    of head, so a linear head takes that form, with the same logits; any other head stays as it is.
    """
    if name not in getattr(pl_module, "parts", ()):
        made = _linear_like(made, old)
    dtype = next((p.dtype for p in old.parameters()), torch.float32)
    return copy.deepcopy(made).to(pl_module.device, dtype)


def loads_by_itself(pl_module: L.LightningModule, made: nn.Module, old: nn.Module, name: str = "head") -> bool:
    """Whether the class of the module loads a checkpoint with this head when nothing is passed."""
    if name in getattr(pl_module, "parts", ()):
        return True
    shapes = [{name: value.shape for name, value in head.state_dict().items()} for head in (made, old)]
    return type(made) is type(old) and shapes[0] == shapes[1]


def weight_norms(head: nn.Module) -> Tensor | None:
    """Norm of each class's weight vector of a linear head; None for any other."""
    linear = _linear(head)
    return None if linear is None else linear.weight.detach().float().norm(dim=1)


def _linear(head: nn.Module) -> LinearHead | nn.Linear | None:
    """The linear layer with the same logits, where there is one."""
    try:
        linear: Any = getattr(head, "to_linear", lambda: head)()
    except LongTailError:
        return None  # it builds on a head that is not linear
    return linear if isinstance(linear, (LinearHead, nn.Linear)) else None


def _linear_like(made: nn.Module, old: nn.Module) -> nn.Module:
    linear = _linear(made)
    if linear is None or type(old) not in (nn.Linear, LinearHead):
        return made
    bias: Tensor | None = linear.bias
    if bias is not None and old.bias is None:
        return made  # a bias cannot be left out
    new = type(old)(linear.weight.shape[1], linear.weight.shape[0], bias=old.bias is not None).to(linear.weight)
    state = {"weight": linear.weight}
    if old.bias is not None:
        state["bias"] = linear.weight.new_zeros(len(linear.weight)) if bias is None else bias
    new.load_state_dict(state)
    return new
