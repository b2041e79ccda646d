from __future__ import annotations

import pytest
import torch

from longtail_lightning import CIFARResNet
from longtail_lightning._errors import LongTailError


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_parameters_are_those_of_table_6_of_the_paper(depth, millions):
    # He et al. 2016 count the 10-way classifier, too.
    parameters = sum(p.numel() for p in CIFARResNet(depth).parameters()) + 64 * 10 + 10
    assert round(parameters / 1e6, 2) == millions


def test_shortcuts_have_no_parameters_and_widen_with_zeros():
    block = CIFARResNet(8).blocks[1]
    for module in (block.conv1, block.conv2):
        torch.nn.init.zeros_(module.weight)
    maps = torch.rand(1, 16, 8, 8)
    out = block.eval()(maps)
    torch.testing.assert_close(out[:, 8:24], maps[:, :, ::2, ::2])
    assert not bool(out[:, :8].any())
    assert not bool(out[:, 24:].any())


def test_layers_are_as_many_as_the_depth_says():
    convolutions = [m for m in CIFARResNet(32).modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 31  # and the classifier


def test_a_depth_between_the_sizes_is_refused():
    with pytest.raises(LongTailError, match="6n \\+ 2"):
        CIFARResNet(18)


def test_without_the_last_relu_features_can_be_negative():
    with_relu, without = CIFARResNet(8).eval(), CIFARResNet(8, last_relu=False).eval()
    without.load_state_dict(with_relu.state_dict())
    images = torch.rand(1, 3, 4, 4)  # maps of one pixel, of which the features are no mean
    assert bool((without(images) < 0).any())
    torch.testing.assert_close(with_relu(images), without(images).clamp(min=0))
