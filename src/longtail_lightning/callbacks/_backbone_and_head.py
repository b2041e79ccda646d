"""The parts of any module, by dotted names."""

from __future__ import annotations

import lightning as L
from torch import nn

from longtail_lightning._errors import LongTailError


def backbone_and_head(
    pl_module: L.LightningModule, who: str, backbone: str = "backbone", head: str = "head"
) -> tuple[nn.Module, nn.Module]:
    """What gives features, and what makes logits of them.

    Args:
        pl_module: the module that has both.
        who: who asks, for the error.
        backbone: where the backbone is, `"backbone"` or `"net.encoder"`.
        head: where the head is.
    """
    return _part(pl_module, who, backbone), _part(pl_module, who, head)


def _part(pl_module: L.LightningModule, who: str, name: str) -> nn.Module:
    try:
        return pl_module.get_submodule(name)
    except AttributeError as error:
        raise LongTailError(
            f"{who} works on features, but {type(pl_module).__name__} has no `{name}`: set self.backbone, from "
            "images to (batch, features), and self.head, from features to logits, and call head(backbone(images)); "
            "callbacks take other names, such as backbone='net.encoder', head='net.classifier'."
        ) from error
