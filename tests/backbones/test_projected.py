"""A linear layer on top of a backbone."""

from __future__ import annotations

import pytest
import torch

from longtail_lightning import IdentityBackbone, LongTailError, ProjectedBackbone


def test_maps_features_to_another_width():
    images = torch.randn(5, 3)
    plain, rectified = ProjectedBackbone(IdentityBackbone(3), 4), ProjectedBackbone(IdentityBackbone(3), 4, relu=True)
    rectified.load_state_dict(plain.state_dict())
    expected = images @ plain.projection.weight.T + plain.projection.bias
    torch.testing.assert_close(plain(images), expected)
    torch.testing.assert_close(rectified(images), expected.clamp(min=0))


def test_a_width_is_a_positive_number():
    with pytest.raises(LongTailError, match="num_features"):
        ProjectedBackbone(IdentityBackbone(3), 0)
