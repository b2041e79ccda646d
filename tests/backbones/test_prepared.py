"""A backbone behind the preparation that its weights were trained with."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional

from longtail_lightning import IdentityBackbone, LongTailError, PreparedBackbone

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
GIVEN_MEAN, GIVEN_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("before", "after"), [(24, 40), (40, 24), (24, 24)])
def test_equals_the_image_prepared_from_the_file(mode, before, after):
    image = torch.rand(2, 3, before, before)
    backbone = PreparedBackbone(
        IdentityBackbone(3 * after * after),
        size=after,
        mean=MEAN,
        std=STD,
        given_mean=GIVEN_MEAN,
        given_std=GIVEN_STD,
        interpolation=mode,
    )
    expected = functional.normalize(functional.resize(image, [after, after], mode, antialias=True), MEAN, STD)
    found = backbone(functional.normalize(image, GIVEN_MEAN, GIVEN_STD))
    torch.testing.assert_close(found, expected.flatten(1), atol=2e-5, rtol=1e-4)


def test_nothing_asked_changes_nothing():
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(PreparedBackbone(IdentityBackbone(192))(images), images.flatten(1))
    features = torch.randn(2, 5)
    assert torch.equal(PreparedBackbone(IdentityBackbone(5), size=4, mean=MEAN, std=STD)(features), features)


def test_the_same_normalization_changes_no_bit():
    images = torch.randn(2, 3, 8, 8)
    backbone = PreparedBackbone(IdentityBackbone(192), size=8, mean=MEAN, std=STD)
    backbone.given(list(MEAN), torch.tensor(STD, dtype=torch.float64).tolist())
    assert torch.equal(backbone(images), images.flatten(1))
    backbone.given(None, None)
    assert not torch.equal(backbone(images), images.flatten(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": MEAN}, "mean and std go together"),
        ({"given_std": STD}, "given_mean and given_std go together"),
        ({"mean": MEAN, "std": (0.2, 0.0, 0.2)}, "are positive"),
        ({"size": 0}, "size"),
        ({"interpolation": "nearest"}, "choose 'bilinear' or 'bicubic'"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(LongTailError, match=message):
        PreparedBackbone(IdentityBackbone(5), **options)
