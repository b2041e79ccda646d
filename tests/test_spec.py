from __future__ import annotations

from enum import Enum
from pathlib import Path

import pytest
import torch
from torch import nn

from longtail_lightning import ClassCounts, CosineHead, LinearHead, WrapLoss
from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import NotPlainError, build, plain, plain_items, spec_of


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
