"""What holds for every backbone class, found by discovery."""

from __future__ import annotations

import pytest
import torch

from longtail_lightning._spec import build, spec_of
from longtail_lightning.backbones import Backbone
from tests.contracts.discover import make, public_classes

BACKBONES = [cls for cls in public_classes("backbones") if issubclass(cls, Backbone)]
each_backbone = pytest.mark.parametrize("cls", BACKBONES, ids=lambda cls: cls.__name__)


@each_backbone
def test_gives_features_of_the_promised_width(cls):
    backbone = make(cls).eval()
    assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, backbone.num_features)


@each_backbone
def test_rebuilds_from_its_spec(cls):
    backbone = make(cls).eval()
    twin = build(spec_of(backbone)).eval()
    twin.load_state_dict(backbone.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(twin(images), backbone(images))
