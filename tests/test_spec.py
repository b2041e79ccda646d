from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from longtail_lightning import ClassCounts, CosineHead, LinearHead, WrapLoss
from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import NotPlainError, build, describe, plain, plain_items, rebuild, spec_of


class Color(Enum):
    RED = "red"


def test_plain_values():
    value = {"a": ClassCounts([2, 1]), "b": (Path("x"), Color.RED), "c": torch.tensor(0.5)}
    assert plain(value) == {"a": [2, 1], "b": ["x", "red"], "c": 0.5}
    with pytest.raises(NotPlainError):
        plain(nn.ReLU())
    assert plain_items({"keep": 1, "drop": nn.ReLU()}) == {"keep": 1}


def test_parts_come_back_as_they_were():
    head = build(spec_of(CosineHead(8, 3, scale=20.0, learnable_scale=False)))
    assert (head.num_features, head.num_classes, float(head.scale), head.learnable_scale) == (8, 3, 20.0, False)
    wrapped = build(spec_of(WrapLoss(nn.CrossEntropyLoss(label_smoothing=0.1))))
    assert wrapped.loss.label_smoothing == 0.1


def test_pretrained_weights_are_not_asked_for_again():
    head = LinearHead(2, 2)
    head.pretrained = True
    spec = {"class_path": "torch.nn.modules.linear.Identity", "init_args": {}}
    assert isinstance(build(spec), nn.Identity)


def test_what_cannot_be_described_is_none():
    assert spec_of(WrapLoss(nn.CrossEntropyLoss(weight=torch.ones(3)))) is None

    class Local(nn.Module):
        pass

    assert spec_of(Local()) is None


class Dropped(nn.Module):
    def __init__(self, dropout: float = 0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)


def test_an_argument_that_became_a_module_is_not_guessed():
    assert spec_of(Dropped()) is None


def test_a_learned_value_is_not_taken_for_an_argument():
    head = CosineHead(8, 3, scale=20.0)
    with torch.no_grad():
        head.scale.fill_(-1.0)
    assert spec_of(head)["init_args"]["scale"] == 20.0


def test_what_cannot_be_built_again_is_asked_for():
    with pytest.raises(LongTailError, match=r"cannot be built again.*load_from_checkpoint\(path, head=\.\.\.\)"):
        build({"class_path": "torch.nn.modules.linear.Linear", "init_args": {"in_features": "many", "out_features": 2}})


@pytest.mark.parametrize("path", ["not_imported_anywhere.Evil", "os.system", "longtail_lightning.counts.ClassCounts"])
def test_only_imported_modules_are_built(path):
    with pytest.raises(LongTailError, match="import"):
        build({"class_path": path, "init_args": {}})


class Holder(nn.Module):
    start_only: ClassVar[dict[str, Any]] = {"pretrained": False}

    def __init__(self, parts, named, deep, *, pretrained=True):
        super().__init__()
        self.parts, self.named, self.deep = nn.ModuleList(parts), nn.ModuleDict(named), deep
        self.pretrained = pretrained


def test_lists_dicts_and_nested_modules_are_described():
    holder = Holder([LinearHead(2, 3), nn.ReLU()], {"a": CosineHead(2, 3)}, {"x": [nn.Identity(), 1]})
    spec = spec_of(holder)
    assert spec["init_args"]["pretrained"] is False
    again = build(spec)
    assert [type(part) for part in again.parts] == [LinearHead, nn.ReLU]
    assert isinstance(again.named["a"], CosineHead)
    assert isinstance(again.deep["x"][0], nn.Identity)
    assert again.deep["x"][1] == 1
    assert again.state_dict().keys() == holder.state_dict().keys()


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()),
        nn.Sequential(OrderedDict(first=nn.Linear(2, 3), second=nn.LayerNorm(3))),
        nn.ModuleList([nn.Linear(2, 2, bias=False)]),
        nn.ModuleDict({"a": nn.ModuleList([nn.Dropout(0.3)])}),
    ],
)
def test_modules_of_torch_are_described(module):
    again = build(spec_of(module))
    assert repr(again) == repr(module)
    again.load_state_dict(module.state_dict())


def test_a_class_that_torch_made_for_one_module_is_not_described():
    assert spec_of(weight_norm(nn.Linear(2, 3))) is None
    assert spec_of(nn.ModuleList([weight_norm(nn.Linear(2, 3))])) is None
    with pytest.raises(NotPlainError):
        describe([nn.ReLU(), object()])


def test_a_module_that_is_there_twice_comes_back_twice():
    act, layer = nn.ReLU(), nn.Linear(2, 2)
    for made in (nn.Sequential(layer, act, layer, act), nn.ModuleList([act, act]), nn.ModuleDict({"a": act, "b": act})):
        again = rebuild(describe(made))
        assert repr(again) == repr(made)
        again.load_state_dict(made.state_dict())
