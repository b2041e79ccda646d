"""What holds for every module, found by discovery, and for one that shares nothing with them but the contract."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import longtail_lightning
from longtail_lightning import BaseClassifier, CIFARResNet, RetrievalMemory, extract_features, load
from longtail_lightning.modules import DescribedModule
from longtail_lightning.modules._description import KEY
from tests.contracts.discover import public_classes
from tests.contracts.toy import Toy, make_toy
from tests.tiny import tiny_data, tiny_model, tiny_trainer

MODULES = [c for c in public_classes("modules") if issubclass(c, DescribedModule) and c is not DescribedModule]
each_module = pytest.mark.parametrize("cls", MODULES, ids=lambda cls: cls.__name__)
BRANCHES = {"base", "retrieval"}  # further logits, of modules that have several
PLAIN = (bool, int, float, str, type(None))


def make(cls, data, **options):
    """Any module on a tiny backbone; what a new one needs beyond it is added here."""
    more = {"backbone": CIFARResNet(8, width=4), "many": 8, "few": 4, "convention": "kang"}
    if cls.__name__ == "PrototypeTransfer":
        more |= {"k": (0, 4), "keep": "none"}
    if cls.__name__ == "RetrievalAugmented":
        torch.manual_seed(3)
        encoder = CIFARResNet(8, width=4)
        RetrievalMemory.build(extract_features(encoder, data, progress=False), path="memory")
        more |= {"encoder": encoder, "k": 3, **outside(cls)}
    if cls.__name__ == "Distillation":
        torch.manual_seed(3)
        more |= {"teachers": tiny_model(data)}
    return cls(data.class_counts, **{**more, **options})


def outside(cls):
    """What a checkpoint does not hold, because it is no part of the model."""
    return {"memory": "memory"} if cls.__name__ == "RetrievalAugmented" else {}


def fit(model, data, path, **options):
    trainer = tiny_trainer(max_epochs=1, **options)
    trainer.fit(model, data)
    trainer.save_checkpoint(path)
    return trainer


def logits_of(model, data):
    with torch.no_grad():
        return torch.cat([o["logits"] for o in tiny_trainer().predict(model, data)])


def is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return all(map(is_plain, value)) if isinstance(value, list) else isinstance(value, PLAIN)


@each_module
def test_is_a_described_module_whose_parts_exist(cls):
    assert issubclass(cls, DescribedModule)
    model = make(cls, tiny_data())
    assert cls.parts
    assert all(isinstance(getattr(model, part), nn.Module) for part in cls.parts)


@each_module
def test_save_load_with_nothing_passed_test_and_predict(cls):
    data = tiny_data()
    model = make(cls, data)
    fit(model, data, "m.ckpt")
    expected = logits_of(model.eval(), data)
    loaded = cls.load_from_checkpoint("m.ckpt", weights_only=True, **outside(cls))
    for again in (loaded, load("m.ckpt", device="cpu", parts=outside(cls)).module):
        torch.testing.assert_close(logits_of(again, data), expected, rtol=0, atol=0)
        assert again.class_names == data.class_names
        (metrics,) = tiny_trainer().test(again, data, verbose=False)
        right = (expected.argmax(1) == data.labels("test")).double()
        assert metrics["test/acc"] == pytest.approx(float(right.mean()))  # three images of each class


@each_module
def test_a_checkpoint_holds_plain_descriptions_and_the_card(cls):
    data = tiny_data()
    fit(make(cls, data), data, "m.ckpt")
    told = torch.load("m.ckpt", weights_only=True)[KEY]
    assert is_plain(told)
    assert [teacher["name"] for teacher in told["card"].pop("teachers", [])] in ([], ["BaseClassifier"])
    assert told["version"] == longtail_lightning.__version__
    assert told["parts"].keys() == set(cls.parts)
    assert all(part["spec"] is not None for part in told["parts"].values())
    assert told["card"] == {
        "class_names": data.class_names,
        "class_counts": data.class_counts.tolist(),
        "many": 8,
        "few": 4,
        "convention": "kang",
        "input": {
            "shape": [3, 32, 32],
            "resize": None,
            "crop": None,
            "crops": 1,
            "interpolation": "bilinear",
            "mean": list(data.mean),
            "std": list(data.std),
        },
        **{name: str(Path(path).absolute()) for name, path in outside(cls).items()},
    }


@each_module
def test_where_a_run_starts_is_stored_empty(cls):
    data = tiny_data()
    first = tiny_model(data)
    fit(first, data, "first.ckpt")
    starts = {"weights": "first.ckpt", "checkpoint": "first.ckpt"}
    given = {name: path for name, path in starts.items() if name in cls.start_only}
    assert given
    model = make(cls, data, **given)
    torch.testing.assert_close(model.backbone.state_dict(), first.backbone.state_dict())
    fit(model, data, "second.ckpt")
    Path("first.ckpt").unlink()
    saved = torch.load("second.ckpt", weights_only=True)["hyper_parameters"]
    for name, empty in cls.start_only.items():
        assert saved.get(name, empty) == empty
    again = cls.load_from_checkpoint("second.ckpt", **outside(cls))
    torch.testing.assert_close(again.state_dict(), model.state_dict())


@each_module
def test_steps_give_logits_labels_and_places(cls):
    data = tiny_data()
    model = make(cls, data).eval()
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    for step in (model.validation_step, model.test_step, model.predict_step):
        assert step([images, labels], 0).keys() - BRANCHES == {"logits", "target"}
        found = step([images, labels, torch.arange(4)], 0)
        assert found["index"].tolist() == [0, 1, 2, 3]
        torch.testing.assert_close(found["logits"], model(images))
    assert model.predict_step(images, 0).keys() - BRANCHES == {"logits"}


@each_module
def test_in_half_precision_logits_are_float32(cls):
    data = tiny_data()
    model = make(cls, data)
    trainer = tiny_trainer(precision="bf16-true", max_epochs=1)
    trainer.fit(model, data)
    assert {o["logits"].dtype for o in trainer.predict(model, data)} == {torch.float32}


# -- a module of other parts ---------------------------------------------------------------------


def teacher(data):
    first = BaseClassifier(data.class_counts, backbone=CIFARResNet(8, width=2))
    fit(first, data, "teacher.ckpt")
    return "teacher.ckpt"


def run_toy(epochs, devices, folder, resume=None):
    """Train the toy; its weights, its test result, and the checkpoint."""
    L.seed_everything(5, verbose=False)
    data = tiny_data(batch_size=8 // devices, num_classes=5)
    more = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    saver = ModelCheckpoint(folder, filename=f"{devices}-{{epoch}}", save_top_k=-1, save_on_train_epoch_end=True)
    options = {"enable_checkpointing": True, "callbacks": [saver], "max_epochs": epochs, **more}
    model = make_toy(data.class_counts, teacher=None if resume else f"{folder}/teacher.ckpt")
    trainer = tiny_trainer(**options)
    if resume:
        model = Toy.load_from_checkpoint(resume, teacher=f"{folder}/teacher.ckpt")
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    (result,) = trainer.test(model, data, verbose=False)
    return {k: v.tolist() for k, v in model.state_dict().items()}, result


def check_toy(folder, expected_state):
    data = tiny_data(num_classes=5)
    path = f"{folder}/1-epoch=1.ckpt"
    saved = torch.load(path, weights_only=True)
    assert not any("teacher" in name or "_outside" in name for name in saved["state_dict"])
    assert saved["hyper_parameters"]["teacher"] is None
    again = Toy.load_from_checkpoint(path, weights_only=True)
    assert {k: v.tolist() for k, v in again.state_dict().items()} == expected_state
    assert [type(head).__name__ for head in again.heads] == ["LinearHead", "CosineHead"]
    assert float(again.heads[1].scale) == 9.0
    ready = load(path, device="cpu")
    torch.testing.assert_close(logits_of(again, data), logits_of(ready.module, data), rtol=0, atol=0)
    images, *_ = next(iter(data.test_dataloader()))
    assert {p.name for p in ready.predict(images)} <= set(data.class_names)


def test_a_toy_of_other_parts_saves_loads_tests_predicts_and_resumes(tmp_path):
    teacher(tiny_data(num_classes=5))
    expected, result = run_toy(2, 1, str(tmp_path))
    Path("teacher.ckpt").rename("moved.ckpt")
    check_toy(tmp_path, expected)
    Path("moved.ckpt").rename("teacher.ckpt")
    resumed, again = run_toy(2, 1, str(tmp_path), resume=f"{tmp_path}/1-epoch=0.ckpt")
    assert resumed == expected
    assert again == result


def test_the_toy_in_two_processes(pool, tmp_path):
    teacher(tiny_data(num_classes=5))
    (first, result), (second, other) = pool.run(run_toy_in, str(tmp_path), 2, None)
    assert first == second
    assert result == other
    (resumed, again), _ = pool.run(run_toy_in, str(tmp_path), 2, f"{tmp_path}/2-epoch=0.ckpt")
    assert resumed == first
    assert again == result
    # One process goes on from what two have written.
    loaded = load(f"{tmp_path}/2-epoch=1.ckpt", device="cpu").module
    assert {k: v.tolist() for k, v in loaded.state_dict().items()} == first


def run_toy_in(folder, devices, resume):
    import os

    os.chdir(folder)
    return run_toy(2, devices, folder, resume)
