"""What holds for every head, found by discovery."""

from __future__ import annotations

import copy
import inspect
import pickle
from types import SimpleNamespace

import pytest
import torch

from longtail_lightning import ClassCounts
from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.heads import Head
from tests.contracts.discover import COUNTS, LABELS, NUM_CLASSES, public_classes
from tests.contracts.discover import make as make_unfitted

HEADS = [cls for cls in public_classes("heads") if issubclass(cls, Head)]
each_head = pytest.mark.parametrize("cls", HEADS, ids=lambda cls: cls.__name__)
each_sized = pytest.mark.parametrize(
    "cls", [c for c in HEADS if "num_classes" in inspect.signature(c).parameters], ids=lambda cls: cls.__name__
)


def make(cls):
    """A head that is ready to use: closed-form heads are fitted first."""
    head = make_unfitted(cls)
    if hasattr(head, "fit"):
        generator = torch.Generator().manual_seed(1)
        bank = SimpleNamespace(features=torch.randn(len(LABELS), 8, generator=generator), labels=LABELS)
        trained = {"classifier": torch.randn(NUM_CLASSES, 8, generator=generator)}
        head.fit(bank, **(trained if "classifier" in inspect.signature(head.fit).parameters else {}))
    return head


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
    rebuilt = build(spec_of(head), ClassCounts(COUNTS))
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


@each_sized
def test_empty_sizes_are_refused(cls):
    with pytest.raises(LongTailError, match="a whole number of at least 1 as num_classes"):
        make_unfitted(cls, num_classes=0)
