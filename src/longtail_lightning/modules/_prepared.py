"""The backbone of a trained module, behind the preparation of images that its card tells."""

from __future__ import annotations

from typing import Any

from longtail_lightning.backbones import PreparedBackbone


def prepared_backbone(module: Any) -> PreparedBackbone:
    """Takes the images of another model.

    Args:
        module: a module of this library.
    """
    told = module.input or {}
    shape = told.get("shape", ())
    square = len(shape) == 3 and shape[1] == shape[2]
    return PreparedBackbone(
        module.backbone,
        size=told.get("crop") or (shape[1] if square else None),
        mean=told.get("mean"),
        std=told.get("std"),
        interpolation=told.get("interpolation", "bilinear"),
    )
