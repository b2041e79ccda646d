"""What holds for every head, found by discovery."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from tests.contracts.discover import NUM_CLASSES, make, public_classes

each_head = pytest.mark.parametrize("cls", public_classes("heads"), ids=lambda cls: cls.__name__)


@each_head
def test_maps_features_to_logits_and_learns(cls):
    head = make(cls)
    features = torch.randn(4, 8, requires_grad=True)
    logits = head(features)
    assert logits.shape == (4, NUM_CLASSES)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in head.parameters() if p.requires_grad)


@each_head
def test_survives_pickle_deepcopy_spec_and_state_dict(cls):
    head, features = make(cls), torch.randn(3, 8)
    rebuilt = build(spec_of(head))
    rebuilt.load_state_dict(head.state_dict())
    for twin in (pickle.loads(pickle.dumps(head)), copy.deepcopy(head), rebuilt):
        torch.testing.assert_close(twin(features), head(features))


@each_head
def test_bf16_autocast_is_close_to_float32(cls):
    head, features = make(cls), torch.randn(16, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = head(features)
    torch.testing.assert_close(low.float(), head(features), rtol=0.05, atol=0.15)


@each_head
def test_a_zero_feature_is_finite(cls):
    assert bool(make(cls)(torch.zeros(2, 8)).isfinite().all())


@each_head
def test_empty_sizes_are_refused(cls):
    with pytest.raises(LongTailError, match="at least one feature and one class"):
        make(cls, num_classes=0)
