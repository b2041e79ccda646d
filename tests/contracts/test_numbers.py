"""A number that cannot be meant is refused by every component, found by discovery."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

import longtail_lightning
from longtail_lightning import LongTailError
from longtail_lightning._rooms import exports
from longtail_lightning.features import HeadTraining
from longtail_lightning.losses import LongTailLoss
from longtail_lightning.modules import Decoupled, WarmupCosine, WarmupMultiStep
from tests.contracts.discover import COUNTS, NUM_CLASSES, make, public_classes

ROOMS = ("losses", "samplers", "heads", "metrics", "methods", "callbacks")
SGD = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
MAKERS = {
    "HeadTraining": HeadTraining,
    "Decoupled": lambda **options: Decoupled(COUNTS, **options),
    "WarmupCosine": lambda **options: WarmupCosine(SGD, **options),
    "WarmupMultiStep": lambda **options: WarmupMultiStep(SGD, **options),
}


def numbers_of(cls):
    """The arguments that take a float."""
    for name, parameter in inspect.signature(cls).parameters.items():
        if "float" in str(parameter.annotation) and "Sequence" not in str(parameter.annotation):
            yield name


FOUND = [(cls, name) for room in ROOMS for cls in public_classes(room) for name in numbers_of(cls)]
FOUND = [(cls, name) for cls, name in FOUND if cls.__name__ != "TauSelection"]  # a result
FOUND += [(cls, name) for cls in (HeadTraining, Decoupled, WarmupCosine, WarmupMultiStep) for name in numbers_of(cls)]


def build(cls, **options):
    return MAKERS[cls.__name__](**options) if cls.__name__ in MAKERS else make(cls, **options)


def test_they_are_found():
    assert len(FOUND) > 40
    assert {"LDAMLoss", "PowerSampler", "CosineHead", "CRT", "LogitAdjustment"} <= {cls.__name__ for cls, _ in FOUND}
    assert all(hasattr(longtail_lightning, name) for room in ROOMS for name in exports(room))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("cls", "name"), FOUND, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_no_number_is_refused(cls, name, value):
    with pytest.raises(LongTailError) as refused:
        build(cls, **{name: value})
    assert str(value) in str(refused.value)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e6])
@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls, name in FOUND if issubclass(cls, LongTailLoss)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_loss_is_finite_or_refused(cls, name, value):
    """Whatever a loss accepts, it computes with."""
    try:
        loss = build(cls, **{name: value}).bind_class_counts(COUNTS)
    except LongTailError:
        return
    logits = torch.randn(6, NUM_CLASSES, requires_grad=True)
    target = torch.arange(6) % NUM_CLASSES
    if cls.multi_label:
        target = torch.nn.functional.one_hot(target, NUM_CLASSES).float()
    result = loss.eval()(logits, target)
    assert result.isfinite()
    assert torch.autograd.grad(result, logits)[0].isfinite().all()
