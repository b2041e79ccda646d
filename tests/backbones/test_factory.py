from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import longtail_lightning
from longtail_lightning import CIFARResNet, ResNet10, ResNeXt, TimmBackbone, TorchvisionBackbone, create_backbone
from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones.factory import OWN_NAMES

TABLE = json.loads((Path(longtail_lightning.__file__).parent / "backbones/parameters.json").read_text(encoding="utf-8"))


def test_names_are_found_here_then_in_timm_then_in_torchvision():
    assert isinstance(create_backbone("cifar_resnet44"), CIFARResNet)
    assert isinstance(create_backbone("resnet10"), ResNet10)
    with torch.device("meta"):
        assert create_backbone("resnext152_32x4d").depth == 152
    assert isinstance(create_backbone("resnet18"), TimmBackbone)
    assert isinstance(create_backbone("torchvision/resnet18"), TorchvisionBackbone)
    assert isinstance(create_backbone("shufflenet_v2_x0_5"), TorchvisionBackbone)


def test_unknown_names_suggest_close_ones():
    with pytest.raises(LongTailError, match="Did you mean cifar_resnet"):
        create_backbone("cifar_resnt32")
    with pytest.raises(LongTailError, match="timm has no model"):
        create_backbone("timm/resnet5")
    with pytest.raises(LongTailError, match="torchvision has no classification model"):
        create_backbone("torchvision/resnet5")
    with pytest.raises(
        LongTailError,
        match=r"no weights 'IMAGENET1K_V3' of resnet50, nor is there such a file\. Did you mean IMAGENET1K_V",
    ):
        TorchvisionBackbone("resnet50", weights="IMAGENET1K_V3")
    with pytest.raises(LongTailError, match="depths 50, 101, 152, got depth=34"):
        ResNeXt(depth=34)
    with pytest.raises(LongTailError, match="no pretrained weights"):
        create_backbone("cifar_resnet32", pretrained=True)


@pytest.mark.parametrize(
    "name", [*OWN_NAMES, "timm/mobilenetv3_small_050", "timm/vit_tiny_patch16_224", "torchvision/shufflenet_v2_x0_5"]
)
def test_the_listed_sizes_are_the_real_ones(name):
    assert sum(p.numel() for p in create_backbone(name).parameters()) == TABLE[name]


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224", "efficientnet_b0", "regnetx_002"]
)
def test_timm_families_give_flat_features(name):
    backbone = TimmBackbone(name).eval()
    assert backbone(torch.zeros(2, 3, 224, 224)).shape == (2, backbone.num_features)


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "seresnet50", "regnetx_002"])
def test_timm_without_the_last_relu(name):
    with_relu, without = TimmBackbone(name).eval(), TimmBackbone(name, last_relu=False).eval()
    for module in with_relu.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)  # some begin at zero, which leaves their block out
    without.load_state_dict(with_relu.state_dict())
    images = torch.rand(1, 3, 32, 32)  # maps of one pixel, of which the features are no mean
    assert bool((without(images) < 0).any())
    torch.testing.assert_close(with_relu(images), without(images).clamp(min=0))


def test_timm_without_any_relu():
    with pytest.raises(LongTailError, match="has no ReLU to leave out"):
        TimmBackbone("vit_tiny_patch16_224", last_relu=False)


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "vgg11_bn",
        "densenet121",
        "googlenet",
        "inception_v3",
        "mobilenet_v3_small",
        "convnext_tiny",
        "vit_b_16",
        "swin_t",
        "efficientnet_b0",
        "maxvit_t",
    ],
)
def test_torchvision_families_give_flat_features(name):
    size = 299 if name == "inception_v3" else 224
    with torch.device("meta"):
        backbone = TorchvisionBackbone(name).eval()
        assert backbone(torch.zeros(2, 3, size, size)).shape == (2, backbone.num_features)


def test_a_model_that_cannot_be_built_without_memory():
    backbone = TorchvisionBackbone("regnet_x_400mf").eval()
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, backbone.num_features)


def test_a_model_without_linear_classifier_is_refused():
    with pytest.raises(LongTailError, match="does not end in a linear classifier"):
        TorchvisionBackbone("squeezenet1_0")


def test_drop_path_reaches_timm():
    backbone = TimmBackbone("convnext_atto", drop_path_rate=0.3)
    assert any("DropPath" in type(m).__name__ for m in backbone.modules())
