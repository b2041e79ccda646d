from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    ClassBalancedSampler,
    CosineHead,
    Decoupled,
    LearnableScaleHead,
    LinearHead,
    NearestClassMeanHead,
    TauNormalizedHead,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones._last_block import last_block
from tests.ddp.test_base_classifier import FeatureMean
from tests.modules.test_resume import Stop
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def stage_one(path="one.ckpt", **options):
    """A checkpoint of a first stage, trained or not."""
    model, trainer = tiny_model(tiny_data(), **options), tiny_trainer()
    for name, value in model.backbone.named_buffers():
        if "running" in name:
            value += 0.1
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return model


def decoupled(data, **options):
    return Decoupled(data.class_counts, **{"checkpoint": "one.ckpt", "many": 8, "few": 4, **options})


def balanced_data():
    return tiny_data(sampler=ClassBalancedSampler)


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}


# Table 1 of the paper: name -> arguments, what is trained of a CIFARResNet with three blocks, learning rates.
TABLE_1 = {
    "C": ({"trainable": "head"}, (), [0.1]),
    "LB+C": ({"trainable": "last_block"}, ("blocks.2",), [0.1, 0.01]),
    "B+C (0.1 x lr)": ({"trainable": "all"}, ("stem", "blocks"), [0.1, 0.01]),
    "B+C": ({"trainable": "all", "backbone_lr_factor": 1.0}, ("stem", "blocks"), [0.1, 0.1]),
}


@pytest.mark.parametrize("name", TABLE_1)
def test_trains_what_table_1_says(name):
    options, prefixes, rates = TABLE_1[name]
    stage_one()
    data = balanced_data()
    model, trainer = decoupled(data, **options), tiny_trainer(max_epochs=1)
    before = values(model.backbone)
    trainer.fit(model, data)
    trained = {name for name, p in model.backbone.named_parameters() if name.startswith(prefixes or ("-",))}
    assert {name for name, p in model.backbone.named_parameters() if p.requires_grad} == trained
    held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    moved = {name for name in changed(before, model.backbone) if not name.rpartition(".")[2].startswith(("run", "num"))}
    assert moved == trained
    assert [group["initial_lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx(rates)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_batch_statistics_of_a_frozen_backbone_stay_or_drift_as_the_flag_says(mode):
    # The authors' code calls model.train() on the frozen backbone: its statistics drift to the balanced batches.
    stage_one()
    data = balanced_data()
    model = decoupled(data, backbone_mode=mode)
    before = values(model.backbone)
    model.train()
    tiny_trainer(max_epochs=2).fit(model, data)  # with validation in between, after which Lightning restores modes
    drifted = changed(before, model.backbone)
    if mode == "eval":
        assert not drifted
    else:
        assert {"stem.1.running_mean", "stem.1.running_var"} <= drifted
        assert all("running" in name or "num_batches" in name for name in drifted)


def test_the_frozen_part_is_quiet_and_the_trained_part_is_not():
    stage_one()
    model = decoupled(tiny_data(), trainable="last_block").train()
    assert [block.training for block in model.backbone.blocks] == [False, False, True]
    assert model.backbone.blocks[2].norm1.training
    assert model.head.training
    assert not model.eval().backbone.blocks[2].training
    assert decoupled(tiny_data(), trainable="all").train().backbone.stem.training


def test_features_are_those_of_the_first_stage():
    first = stage_one().eval()
    images = torch.randn(3, 3, 32, 32)
    model = decoupled(tiny_data()).eval()
    torch.testing.assert_close(model.backbone(images), first.backbone(images), rtol=0, atol=0)
    assert not torch.equal(model.head.weight, first.head.weight), "cRT begins with a new classifier"
    torch.testing.assert_close(decoupled(tiny_data(), head=None).eval()(images), first(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    "head",
    [
        LinearHead,
        partial(LearnableScaleHead, scale_bias=True),
        CosineHead(16, 6, scale=9.0),
        None,
    ],
)
def test_reloads_tests_and_predicts_without_the_first_stage(head):
    stage_one()
    data = balanced_data()
    model, trainer = decoupled(data, head=head), tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("two.ckpt")
    (results,) = trainer.test(model, data, verbose=False)
    Path("one.ckpt").unlink()
    reloaded = Decoupled.load_from_checkpoint("two.ckpt", weights_only=True).eval()
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(reloaded(images), model.eval()(images), rtol=0, atol=0)
    assert type(reloaded.head) is type(model.head)
    assert not any(p.requires_grad for p in reloaded.backbone.parameters())
    assert tiny_trainer().test(reloaded, data, verbose=False) == [results]
    tested = Decoupled(data.class_counts, many=8, few=4)
    assert tiny_trainer().test(tested, data, ckpt_path="two.ckpt", verbose=False, weights_only=True) == [results]


@pytest.mark.parametrize(
    ("options", "stop"),  # 5 batches per epoch: in the first epoch, at its end, in the second
    [
        ({"head": LearnableScaleHead}, 3),
        ({"trainable": "last_block"}, 7),
        ({"trainable": "all", "backbone_lr_factor": 0.5}, 5),
        ({"backbone_mode": "train"}, 3),
    ],
)
def test_resume_equals_uninterrupted(options, stop):
    stage_one()

    def run(stop=None, ckpt_path=None):
        L.seed_everything(7, verbose=False)
        data = balanced_data()
        # A resumed run needs no first stage.
        model = decoupled(data, **options) if ckpt_path is None else decoupled(data, checkpoint=None, **options)
        trainer = tiny_trainer(max_epochs=2, callbacks=[Stop(stop)] if stop else [])
        if stop:
            with pytest.raises(SystemExit):
                trainer.fit(model, data)
        else:
            trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
        return values(model), [group["lr"] for group in trainer.optimizers[0].param_groups]

    expected, rates = run()
    run(stop=stop)
    resumed, resumed_rates = run(ckpt_path="stopped.ckpt")
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
    assert resumed_rates == rates


class Unknown(nn.Module):
    """A backbone that plain values cannot describe."""

    num_features = 3

    def __init__(self, *, secret=object()):  # noqa: B008
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


def test_a_backbone_that_cannot_be_described_is_asked_for():
    first = stage_one(backbone=Unknown())
    with pytest.raises(LongTailError, match=r"The backbone in one.ckpt is a Unknown.*pass it as Decoupled"):
        decoupled(tiny_data())
    model = decoupled(tiny_data(), backbone=Unknown())
    torch.testing.assert_close(values(model.backbone), values(first.backbone))


def test_a_head_that_cannot_be_described_can_be_replaced_but_not_kept():
    data = tiny_data()
    model, trainer = tiny_model(data), tiny_trainer()
    model.head = weight_norm(nn.Linear(16, 6))  # a class that torch makes for this one module
    trainer.strategy.connect(model)
    trainer.save_checkpoint("one.ckpt")
    assert isinstance(decoupled(data).head, LinearHead)
    with pytest.raises(LongTailError, match="cannot describe its head"):
        decoupled(data, head=LearnableScaleHead)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": "nowhere.ckpt"}, "there is no such file; give the checkpoint of the first stage"),
        ({"checkpoint": "foreign.ckpt"}, "not written by a BaseClassifier"),
        ({"checkpoint": "text.ckpt"}, "text.ckpt is not a checkpoint, or is damaged"),
        (
            {"backbone": CIFARResNet(8, width=2)},
            "No weight of one.ckpt fits CIFARResNet: .* networks of different sizes",
        ),
        ({"trainable": "body"}, "choose 'head' or 'last_block' or 'all'"),
        ({"backbone_mode": "frozen"}, "choose 'eval' or 'train'"),
        ({"head": LinearHead(9, 6)}, "num_features=9 but the backbone gives 16"),
    ],
)
def test_wrong_input_is_told(options, message):
    stage_one()
    torch.save({"state_dict": {}}, "foreign.ckpt")
    Path("text.ckpt").write_text("hi")
    with pytest.raises(LongTailError, match=message):
        decoupled(tiny_data(), **options)


def test_a_second_stage_needs_a_first():
    data = tiny_data()
    with pytest.raises(LongTailError, match="give it that of the first, checkpoint=FILE"):
        tiny_trainer().fit(Decoupled(data.class_counts), data)


@pytest.mark.parametrize("head", [TauNormalizedHead, lambda f, c: NearestClassMeanHead(f, c)])
def test_nothing_to_train_is_told(head):
    stage_one()
    data = tiny_data()
    with pytest.raises(LongTailError, match="has nothing to train"):
        tiny_trainer().fit(decoupled(data, head=head), data)


def test_bf16_trains_like_float32():
    stage_one()
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        L.seed_everything(1, verbose=False)
        data = balanced_data()
        trainer = tiny_trainer(precision=precision, max_epochs=1)
        trainer.fit(decoupled(data, head=LearnableScaleHead), data)
        losses.append(trainer.callback_metrics["val/loss"].item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def fit_on(batch_size, devices, folder):
    L.seed_everything(3, verbose=False)
    data = tiny_data(
        batch_size=batch_size, augment=False, num_classes=5, sampler=partial(ClassBalancedSampler, num_samples=32)
    )
    first = BaseClassifier(data.class_counts, backbone=FeatureMean())
    model = Decoupled(data.class_counts, backbone=first.backbone, trainable="last_block")
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(max_epochs=2, **distributed)
    trainer.fit(model, data)
    return {name: value.tolist() for name, value in model.state_dict().items()}


def test_two_ranks_train_like_one(pool, tmp_path):
    expected = fit_on(8, 1, str(tmp_path))
    first, second = pool.run(fit_on, 4, 2, str(tmp_path))
    assert first == second
    for name, value in expected.items():
        torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(value), rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("resnet10", ["network.layer4"]),
        ("torchvision/resnet18", ["network.layer4"]),
        ("timm/resnet10t", ["network.layer4"]),
        ("timm/convnext_atto", ["network.stages.3", "network.head"]),
        ("timm/vit_tiny_patch16_224", ["network.blocks.11", "network.norm"]),
        ("torchvision/vit_b_16", ["network.encoder.layers.encoder_layer_11", "network.encoder.ln"]),
        ("cifar_resnet20", ["blocks.8"]),
    ],
)
def test_the_last_block_of_any_network(backbone, names):
    from longtail_lightning import create_backbone

    network = create_backbone(backbone)
    found = last_block(network)
    assert [name for name, module in network.named_modules() if any(module is block for block in found)] == names
