"""Checkpoints that load with nothing passed: plain descriptions of the parts beside the weights."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, plain_items, spec_of

KEY = "longtail_lightning_parts"
PARTS = ("backbone", "head", "loss")
_HPARAMS = "hyper_parameters"


def save_parts(module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Describe the parts as they are now, and keep only plain values of the hyper-parameters."""
    parts = {name: getattr(module, name) for name in PARTS if hasattr(module, name)}
    checkpoint[KEY] = {name: spec_of(part) for name, part in parts.items()}
    checkpoint[KEY]["classes"] = {name: type(part).__qualname__ for name, part in parts.items()}
    if _HPARAMS in checkpoint:
        kept = plain_items(checkpoint[_HPARAMS])
        # The weights are in the checkpoint: loading it must not download them again.
        if "pretrained" in kept:
            kept["pretrained"] = False
        checkpoint[_HPARAMS] = kept


def restore_parts(module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Rebuild each part that differs from what the checkpoint was saved with.

    A part that was passed to `load_from_checkpoint` stays. So does the loss when a trainer resumes:
    it holds no weights, and the one in the script or config is the one that was asked for.
    """
    specs = checkpoint.get(KEY, {})
    passed = checkpoint.get(_HPARAMS, {})
    for name in PARTS:
        if name not in specs or isinstance(passed.get(name), nn.Module):
            continue
        part, spec = getattr(module, name), specs[name]
        if name == "loss" and module._trainer is not None:
            continue
        if spec is None:
            saved_class = specs["classes"][name]
            if type(part).__qualname__ != saved_class:
                raise LongTailError(
                    f"The checkpoint's {name} is a {saved_class}, which cannot be described in plain values: "
                    f"load it with load_from_checkpoint(path, {name}=...)."
                )
        elif spec_of(part) != spec:
            setattr(module, name, build(spec))
