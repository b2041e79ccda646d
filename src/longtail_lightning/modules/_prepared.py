"""The backbone of a trained module, behind the preparation of images that its card tells."""

from __future__ import annotations

from typing import Any

from longtail_lightning.backbones import PreparedBackbone


def prepared_backbone(module: Any) -> Any:
    """Takes the images of another model; the backbone itself where the card does not tell what it was trained on.

    Args:
        module: a module of this library.
    """
    told = module.input or {}
    if "mean" not in told:
        return module.backbone
    shape = told.get("shape", ())
    square = len(shape) == 3 and shape[1] == shape[2]
    return PreparedBackbone(
        module.backbone,
        size=told.get("crop") or (shape[1] if square else None),
        mean=told.get("mean"),
        std=told.get("std"),
        interpolation=told.get("interpolation", "bilinear"),
    )
