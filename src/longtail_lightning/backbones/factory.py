"""From a name to a backbone."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.backbones._base import Backbone
from longtail_lightning.backbones.cifar_resnet import CIFARResNet
from longtail_lightning.backbones.resnet10 import ResNet10
from longtail_lightning.backbones.resnext import ResNeXt
from longtail_lightning.backbones.timm import TimmBackbone
from longtail_lightning.backbones.torchvision import TorchvisionBackbone

_IMAGENET: dict[str, Callable[..., Backbone]] = {"resnet10": ResNet10, "resnext152_32x4d": partial(ResNeXt, depth=152)}
OWN_NAMES = ("cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56", *_IMAGENET)


def create_backbone(name: str, *, pretrained: bool = False, weights: str | Path | None = None) -> Backbone:
    """Build a backbone from its name.

    Names are looked up here (`cifar_resnet32`, `resnet10`), then in timm, then in torchvision;
    `"timm/resnet50"` and `"torchvision/resnet50"` say which one is meant.

    Args:
        name: the name; `ltl list backbones` shows them all with their sizes.
        pretrained: whether to download weights.
        weights: file of a checkpoint that the weights are read from, see `load_weights`.

    Examples:
        >>> create_backbone("cifar_resnet20").num_features
        64
    """
    if (match := re.fullmatch(r"cifar_resnet(\d+)", name)) or name in _IMAGENET:
        if pretrained:
            raise LongTailError(
                f"There are no pretrained weights of {name!r}: drop pretrained=True or use a timm name."
            )
        return CIFARResNet(depth=int(match[1]), weights=weights) if match else _IMAGENET[name](weights=weights)
    library, _, model = name.rpartition("/")
    if library == "timm":
        return TimmBackbone(model, pretrained=pretrained, weights=weights)
    if library == "torchvision":
        return TorchvisionBackbone(model, pretrained=pretrained, weights=weights)
    import timm
    import torchvision

    if timm.is_model(name):
        return TimmBackbone(name, pretrained=pretrained, weights=weights)
    in_torchvision = torchvision.models.list_models(module=torchvision.models)
    if name in in_torchvision:
        return TorchvisionBackbone(name, pretrained=pretrained, weights=weights)
    known = [*OWN_NAMES, *timm.list_models(), *in_torchvision]
    raise LongTailError(f"There is no backbone {name!r}. {did_you_mean(name, known, listing='ltl list backbones')}")
