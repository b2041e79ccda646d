"""Checkpoints that load with nothing passed: plain descriptions of the parts beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, plain_items, spec_of
from longtail_lightning.counts import ClassCounts

KEY = "longtail_lightning_parts"
TRAINABLE = "longtail_lightning_trainable"
PARTS = ("backbone", "head", "loss")
_HPARAMS = "hyper_parameters"


def save_parts(module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Describe the parts as they are now, and keep only plain values of the hyper-parameters."""
    parts = {name: getattr(module, name) for name in PARTS if hasattr(module, name)}
    checkpoint[KEY] = {name: {"class": type(part).__qualname__, "spec": spec_of(part)} for name, part in parts.items()}
    if _HPARAMS in checkpoint:
        kept = plain_items(checkpoint[_HPARAMS])
        # The weights are in the checkpoint: loading it must not download them again.
        if "pretrained" in kept:
            kept["pretrained"] = False
        checkpoint[_HPARAMS] = kept


def stage_one_parts(path: str | Path, backbone: nn.Module | None, class_counts: ClassCounts) -> dict[str, nn.Module]:
    """Backbone and head of a checkpoint, with its weights.

    Args:
        path: a checkpoint of a `BaseClassifier`.
        backbone: takes the weights, where the checkpoint cannot describe its backbone.
        class_counts: for parts that require them.
    """
    if not Path(path).is_file():
        raise LongTailError(f"checkpoint={str(path)!r}: there is no such file; give the checkpoint of the first stage.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what torch raises depends on what the file holds
        checkpoint = None
    if not isinstance(checkpoint, dict) or not {KEY, "state_dict"} <= checkpoint.keys():
        raise LongTailError(
            f"{path} does not describe its parts, so it was not written by a BaseClassifier: "
            "load your module yourself and pass Decoupled(class_counts, backbone=module.backbone)."
        )
    parts: dict[str, nn.Module] = {}
    for name in ("backbone", "head"):
        saved = checkpoint[KEY][name]
        if name == "backbone" and backbone is not None:
            part = backbone
        elif saved["spec"] is not None:
            part = build(saved["spec"], class_counts)
        elif name == "head":
            continue  # needed only by one who keeps it
        else:
            raise LongTailError(
                f"The backbone in {path} is a {saved['class']}, which cannot be described in plain values: "
                "pass it as Decoupled(class_counts, checkpoint=..., backbone=...), its weights will be loaded."
            )
        prefix = f"{name}."
        weights = checkpoint["state_dict"].items()
        try:
            part.load_state_dict({key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)})
        except RuntimeError as error:
            raise LongTailError(
                f"The weights of the {name} in {path}, a {saved['class']}, do not fit the {type(part).__name__} that "
                "takes them: give one of the same kind and width."
            ) from error
        parts[name] = part
    return parts


def save_trainable(module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Remember which parameters were being trained."""
    checkpoint[TRAINABLE] = [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def restore_trainable(module: L.LightningModule, names: list[str]) -> None:
    """Train what was trained before the stop, as far as the optimizers hold it.

    Lightning's `BackboneFinetuning` freezes the backbone again when a run resumes, although its
    parameters are in the optimizer.
    """
    held = {
        id(p) for optimizer in module.trainer.optimizers for group in optimizer.param_groups for p in group["params"]
    }
    for name, parameter in module.named_parameters():
        if name in names and id(parameter) in held:
            parameter.requires_grad_(True)


def restore_parts(module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Rebuild each part that differs from what the checkpoint was saved with.

    A part that was passed to `load_from_checkpoint` stays. So does the loss when a trainer resumes:
    it is the one in the script or config that was asked for.
    """
    passed = checkpoint.get(_HPARAMS, {})
    for name, saved in checkpoint.get(KEY, {}).items():
        if isinstance(passed.get(name), nn.Module) or (name == "loss" and module._trainer is not None):
            continue
        part, spec = getattr(module, name), saved["spec"]
        if spec is None and type(part).__qualname__ != saved["class"]:
            raise LongTailError(
                f"The checkpoint's {name} is a {saved['class']}, which cannot be described in plain values: "
                f"load it with load_from_checkpoint(path, {name}=...)."
            )
        if spec is not None and spec_of(part) != spec:
            setattr(module, name, build(spec, getattr(module, "class_counts", None)))
