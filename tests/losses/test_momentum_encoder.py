from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.heads import CosineHead
from longtail_lightning.losses import MomentumEncoder


def test_follows_slowly():
    encoder = torch.nn.Linear(2, 1)
    before = encoder.weight.detach().clone()
    slow = MomentumEncoder(encoder, momentum=0.9)
    with torch.no_grad():
        encoder.weight += 1
    slow.update(encoder)
    torch.testing.assert_close(slow.encoder.weight, before + 0.1)


def test_gets_no_gradient_and_leaves_the_encoder_alone():
    encoder = torch.nn.Linear(2, 1)
    slow = MomentumEncoder(encoder)
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert not slow(torch.zeros(1, 2)).requires_grad


def test_batch_statistics_stay_its_own():
    encoder = torch.nn.BatchNorm1d(2)
    slow = MomentumEncoder(encoder, momentum=0.0)
    encoder(torch.full((4, 2), 5.0))
    slow.update(encoder)
    torch.testing.assert_close(slow.encoder.running_mean, torch.zeros(2))


def test_rebuilds_from_its_spec():
    twin = build(spec_of(MomentumEncoder(CosineHead(2, 1), momentum=0.5)))
    assert twin.momentum == 0.5
    assert twin(torch.zeros(3, 2)).shape == (3, 1)


def test_a_momentum_out_of_range_is_refused():
    with pytest.raises(LongTailError, match="finite momentum from 0 to 1"):
        MomentumEncoder(torch.nn.Linear(2, 1), momentum=1.5)
