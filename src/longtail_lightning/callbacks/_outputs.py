"""What evaluation and prediction steps return, which callbacks read and adjust."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import Tensor

from longtail_lightning._errors import LongTailError


def outputs_of(outputs: Any, pl_module: L.LightningModule, step: str, *needed: str) -> dict[str, Tensor]:
    """The dictionary that a step returned; the error says in one sentence what to return.

    Args:
        outputs: what the step returned.
        pl_module: whose step it is.
        step: its name.
        needed: what must be in the dictionary, besides `"logits"`.
    """
    wanted = ("logits", *needed)
    if isinstance(outputs, dict) and all(isinstance(outputs.get(name), Tensor) for name in wanted):
        if outputs["logits"].ndim == 2:
            return outputs
        found = f"logits of shape {tuple(outputs['logits'].shape)}, expected (batch, classes)"
    elif isinstance(outputs, dict):
        kinds = (f"{key!r}{_kind(value)}" for key, value in outputs.items())
        found = f"a dict of {', '.join(kinds) or 'nothing'}"
    else:
        found = "None" if outputs is None else f"a {type(outputs).__name__}"
    values = {"logits": "logits", "target": "labels", "index": "places in the split"}
    form = ", ".join(f"'{name}': {values[name]}" for name in wanted)
    raise LongTailError(f"{step} of {type(pl_module).__name__} returned {found}: return {{{form}}}.")


def _kind(value: Any) -> str:
    return "" if isinstance(value, Tensor) else f" as {type(value).__name__}"
