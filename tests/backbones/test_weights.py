"""Weights of any checkpoint find their places, and what does not is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from longtail_lightning import (
    CIFARResNet,
    LinearHead,
    LongTailError,
    ResNet10,
    TimmBackbone,
    TorchvisionBackbone,
    create_backbone,
    load_weights,
)
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def same(first, second):
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def under(prefix, module):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


FORMS = {
    "plain state dict": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
    "DataParallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "whole model": lambda state: {
        "state_dict": {f"model.backbone.{n}": v for n, v in state.items()} | {"model.head.weight": torch.ones(2, 8)}
    },
    "compiled": lambda state: {"model_state_dict": {f"_orig_mod.{name}": value for name, value in state.items()}},
    "averaged": lambda state: {
        "state_dict": {name: torch.zeros_like(value) for name, value in state.items()},
        "state_dict_ema": state,
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_checkpoint(form):
    trained = CIFARResNet(8, width=2)
    torch.save(FORMS[form](trained.state_dict()), "w.pt")
    module = CIFARResNet(8, width=2)
    loaded = load_weights(module, "w.pt")
    same(module, trained)
    assert list(loaded.matched) == list(trained.state_dict())
    assert not loaded.missing
    assert loaded.averaged == (form == "averaged")


def test_averaged_weights_can_be_left():
    trained = CIFARResNet(8, width=2)
    torch.save({"state_dict": trained.state_dict(), "ema": CIFARResNet(8, width=2).state_dict()}, "w.pt")
    module = CIFARResNet(8, width=2)
    assert not load_weights(module, "w.pt", averaged=False).averaged
    same(module, trained)


def test_safetensors():
    from safetensors.torch import save_file

    trained = CIFARResNet(8, width=2)
    save_file(trained.state_dict(), "w.safetensors")
    same(CIFARResNet(8, width=2, weights="w.safetensors"), trained)


@pytest.mark.parametrize("which", ["timm", "torchvision", "own"])
def test_a_file_of_the_plain_network_with_its_classifier(which):
    import timm
    import torchvision

    if which == "timm":
        network, make = timm.create_model("resnet10t", num_classes=7), lambda **o: TimmBackbone("resnet10t", **o)
    elif which == "torchvision":
        network, make = torchvision.models.resnet18(num_classes=7), lambda **o: TorchvisionBackbone("resnet18", **o)
    else:
        from torchvision.models.resnet import BasicBlock, ResNet

        network, make = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7), ResNet10
    torch.save(under("module.", network), "w.pt")
    backbone = make(weights="w.pt")
    network.fc = nn.Identity()
    same(backbone.network, network)
    assert list(backbone.loaded.unused) == ["module.fc.weight", "module.fc.bias"]
    assert "2 of the file are not used (module.fc.weight, module.fc.bias)" in backbone.loaded.summary()
    by_name = {"timm": "timm/resnet10t", "torchvision": "torchvision/resnet18", "own": "resnet10"}[which]
    same(create_backbone(by_name, weights="w.pt"), backbone)


def test_a_checkpoint_of_this_library_and_its_head():
    data = tiny_data()
    model = tiny_model(data, backbone=CIFARResNet(8, width=2))
    trainer = tiny_trainer()
    trainer.strategy.connect(model)
    trainer.save_checkpoint("m.ckpt")
    same(create_backbone_of_width_2("m.ckpt"), model.backbone)
    head = LinearHead(8, 6)
    assert load_weights(head, "m.ckpt", part="head").prefix == "head."
    same(head, model.head)


def create_backbone_of_width_2(path):
    return CIFARResNet(8, width=2, weights=path)


def test_of_equal_matches_the_part_that_was_asked_for_wins():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    torch.save({**under("student.encoder.", first), **under("student.head.", second)}, "w.pt")
    module = nn.Linear(3, 3)
    load_weights(module, "w.pt", part="head")
    same(module, second)
    load_weights(module, "w.pt", part="encoder")
    same(module, first)


def test_what_is_missing_keeps_its_values_and_is_told():
    state = CIFARResNet(8, width=2).state_dict()
    lost = [name for name in state if name.startswith("blocks.2")]
    torch.save({name: value for name, value in state.items() if name not in lost}, "w.pt")
    with pytest.warns(UserWarning, match=rf"Not all weights were there. w.pt: .*{len(lost)} are missing there"):
        backbone = CIFARResNet(8, width=2, weights="w.pt")
    assert list(backbone.loaded.missing) == lost


def test_what_does_not_fit_is_told():
    torch.save(CIFARResNet(8, width=4).state_dict(), "wide.pt")
    torch.save(nn.Linear(2, 2).state_dict(), "linear.pt")
    torch.save({"epoch": 3}, "empty.pt")
    torch.save([1, 2], "list.pt")
    torch.save({"state_dict": {}, "net": CIFARResNet(8)}, "pickled.pt")
    Path("text.pt").write_text("hello")
    for file, message in (
        ("nowhere.pt", "there is no such file"),
        ("linear.pt", "it is another kind of network"),
        ("empty.pt", "holds no weights by name"),
        ("list.pt", "holds a list, not weights by name"),
        ("pickled.pt", "holds a whole module, which can only be read by running code"),
        ("text.pt", "is not a checkpoint, or is damaged"),
    ):
        with pytest.raises(LongTailError, match=message):
            load_weights(TimmBackbone("resnet10t"), file)
    with pytest.raises(LongTailError, match="networks of different sizes"):
        load_weights(CIFARResNet(8, width=2), "wide.pt")


def test_no_code_runs_while_weights_are_read(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    with open("evil.pt", "wb") as file:
        pickle.dump({"state_dict": Evil()}, file)
    torch.save({"state_dict": Evil()}, "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(LongTailError):
            load_weights(CIFARResNet(8), name)
    assert not (tmp_path / "ran").exists()


def test_a_model_takes_weights_for_its_backbone():
    data = tiny_data()
    trained = CIFARResNet(8, width=4)
    torch.save({"state_dict": under("encoder.", trained)}, "w.pt")
    same(tiny_model(data, weights="w.pt").backbone, trained)


@pytest.mark.parametrize("missing", [0, 10, 21, 41])
def test_any_weight_may_be_missing_in_the_file(missing, tmp_path):
    backbone = CIFARResNet(8, width=4)
    names = list(backbone.state_dict())
    left_out = {names[0], names[len(names) // 2], names[-1], names[missing]}
    kept = {f"model.{name}": value for name, value in backbone.state_dict().items() if name not in left_out}
    torch.save(kept, tmp_path / "w.pt")
    found = load_weights(CIFARResNet(8, width=4), tmp_path / "w.pt")
    assert (found.prefix, set(found.missing), list(found.unused)) == ("model.", left_out, [])
