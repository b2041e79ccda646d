"""Backbones: `backbone(images) -> (batch, num_features)`; any timm or torchvision name, and our own."""

from longtail_lightning.backbones._base import Backbone as Backbone
from longtail_lightning.backbones.cifar_resnet import CIFARResNet as CIFARResNet
from longtail_lightning.backbones.factory import create_backbone as create_backbone
from longtail_lightning.backbones.identity import IdentityBackbone as IdentityBackbone
from longtail_lightning.backbones.prepared import PreparedBackbone as PreparedBackbone
from longtail_lightning.backbones.projected import ProjectedBackbone as ProjectedBackbone
from longtail_lightning.backbones.resnet10 import ResNet10 as ResNet10
from longtail_lightning.backbones.resnext import ResNeXt as ResNeXt
from longtail_lightning.backbones.timm import TimmBackbone as TimmBackbone
from longtail_lightning.backbones.torchvision import TorchvisionBackbone as TorchvisionBackbone
from longtail_lightning.backbones.weights import LoadedWeights as LoadedWeights
from longtail_lightning.backbones.weights import load_weights as load_weights

__all__ = [
    "Backbone",
    "CIFARResNet",
    "IdentityBackbone",
    "LoadedWeights",
    "PreparedBackbone",
    "ProjectedBackbone",
    "ResNeXt",
    "ResNet10",
    "TimmBackbone",
    "TorchvisionBackbone",
    "create_backbone",
    "load_weights",
]
