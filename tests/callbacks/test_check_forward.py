"""What works on features asks that a module be `head(backbone(images))`."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn
from torch.nn import functional as F

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    ClassifierRetraining,
    CosineHead,
    Decoupled,
    LogitAdjustment,
    NearestClassMeanHead,
    TauSweep,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks import _check_forward
from tests.callbacks.test_classifier_retraining import Own, loaders, retrain, values
from tests.modules.test_base_classifier import partial_compile
from tests.tiny import tiny_data, tiny_model, tiny_trainer

REFUSED = (
    r"forward of \w+ is not head\(backbone\(images\)\), .*put what lies between .* into self\.backbone or self\.head"
)


class Between(Own):
    """Something lies between backbone and head, or around them."""

    def __init__(self, between=None, before=None, after=None):
        super().__init__()
        self.between, self.before, self.after = (x or nn.Identity() for x in (between, before, after))
        self.steps = 0

    def forward(self, images):
        return self.after(self.head(self.between(self.backbone(self.before(images)))))

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return super().training_step(batch, batch_idx)


class Scaled(nn.Module):
    def forward(self, features):
        return 10 * F.normalize(features, dim=1)


class InPlace(nn.Module):
    def forward(self, features):
        return features.mul_(-1)


def run(callback, model, **options):
    callback.many, callback.few = 20, 10
    tiny_trainer(callbacks=[callback], **{"max_epochs": 1, **options}).fit(model, *loaders())


@pytest.mark.parametrize(
    "parts",
    [
        {"between": nn.Linear(16, 16)},
        {"between": Scaled()},
        {"between": InPlace()},
        {"between": nn.BatchNorm1d(16)},  # not trained yet, it is all but the identity
        {"before": nn.InstanceNorm2d(3)},
        {"after": nn.BatchNorm1d(3).requires_grad_(False)},
        {"after": nn.Linear(3, 3)},
    ],
    ids=lambda parts: "-".join((*parts, type(next(iter(parts.values()))).__name__)),
)
def test_a_forward_that_is_more_is_told_before_the_training(parts):
    if "after" in parts and isinstance(parts["after"], nn.BatchNorm1d):
        parts["after"].running_var.fill_(0.01)
        parts["after"].running_mean.copy_(torch.arange(3.0))
    model = Between(**parts)
    with pytest.raises(LongTailError, match=REFUSED):
        run(retrain(["ncm"]), model)
    assert model.steps == 0


class WithoutHooks(Own):
    def forward(self, images):
        return F.linear(F.normalize(self.backbone(images)), F.normalize(self.head.weight))


@pytest.mark.parametrize("callback", [ClassifierRetraining(["ncm"], plot=False), TauSweep(plot=False)])
@pytest.mark.parametrize("model", [Between(Scaled()), WithoutHooks()])
def test_a_model_that_is_not_trained_here_is_looked_at_too(callback, model):
    with pytest.raises(LongTailError, match=REFUSED):
        run(callback, model, max_epochs=0)
    if isinstance(callback, TauSweep):
        with pytest.raises(LongTailError, match=REFUSED):
            tiny_trainer(callbacks=[callback]).validate(model, loaders()[1], verbose=False)


class Drawn(nn.Module):
    """Draws in evaluation too."""

    def forward(self, features):
        return features + torch.randn_like(features)


def with_changed_images():
    model = Own()
    model.backbone = nn.Sequential(InPlace(), model.backbone)
    return model


class NoForward(Own):
    forward = torch.nn.Module.forward

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def validation_step(self, batch, batch_idx):
        return


class OfBatches(Own):
    def forward(self, images, labels):
        return F.cross_entropy(self.head(self.backbone(images)), labels)

    def training_step(self, batch, batch_idx):
        return self(*batch)

    def validation_step(self, batch, batch_idx):
        return


class Many(NoForward):
    def forward(self, images):
        features = self.backbone(images)
        return {"logits": self.head(features), "features": features}


class Embedding(NoForward):
    def forward(self, images):
        return F.normalize(self.backbone(images))


class Functional(Own):
    def forward(self, images):
        return F.linear(self.backbone.forward(images), self.head.weight, self.head.bias)


def with_drawing_backbone():
    model = Own()
    model.backbone = nn.Sequential(model.backbone, Drawn())
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: Between(nn.Dropout(0.9)),
        lambda: Between(nn.ReLU()),  # the backbone ends with one
        lambda: Between(after=nn.Softmax(1)),
        lambda: Between(after=nn.LogSoftmax(1)),
        with_drawing_backbone,
        with_changed_images,
        NoForward,
        OfBatches,
        Many,
        Embedding,
        Functional,
    ],
)
def test_what_gives_the_same_or_tells_nothing_is_not_refused(make):
    retraining = retrain(["ncm"], keep="ncm")
    model = make()
    run(retraining, model)
    assert isinstance(model.head, NearestClassMeanHead)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions(precision):
    run(retrain(["ncm"]), Own(), precision=precision)
    with pytest.raises(LongTailError, match=REFUSED):
        run(retrain(["ncm"]), Between(nn.Linear(16, 16)), precision=precision)


@pytest.mark.parametrize(
    "make",
    [
        lambda data: tiny_model(data, head=CosineHead),
        lambda data: Decoupled(data.class_counts, backbone=CIFARResNet(8, width=4), trainable="last_block"),
    ],
)
def test_modules_of_the_library(make):
    data = tiny_data()
    retraining = retrain(["ncm"], keep="ncm")
    model = make(data)
    tiny_trainer(callbacks=[retraining], max_epochs=1).fit(model, data)
    assert isinstance(model.head, NearestClassMeanHead)


@pytest.mark.parametrize("order", [1, -1])
def test_beside_an_adjustment_of_the_logits(order):
    data = tiny_data()
    sweep = TauSweep(plot=False)
    callbacks = [LogitAdjustment(tau=2.0), sweep][::order]
    tiny_trainer(callbacks=callbacks).validate(tiny_model(data), data, verbose=False)
    assert sweep.selection is not None


def test_compiled_parts(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", partial_compile)
    data = tiny_data()
    run_once = tiny_trainer(callbacks=[retrain(["ncm"])], limit_train_batches=0)
    run_once.fit(tiny_model(data, compile=True), data)


@pytest.mark.filterwarnings("ignore:Found . module.s. in eval mode")
def test_nothing_is_disturbed():
    """Neither weights, statistics and modes, nor random numbers."""

    class Watch(ClassifierRetraining):
        def on_train_start(self, trainer, pl_module):
            before = values(pl_module), modes(pl_module), states()
            super().on_train_start(trainer, pl_module)
            after = values(pl_module), modes(pl_module), states()
            seen.append((before, after))

    class Draws(Own):
        def forward(self, images):
            torch.rand(1), random.random(), np.random.rand()
            return super().forward(images)

    def modes(module):
        return [part.training for part in module.modules()]

    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    seen = []
    model = Draws()
    model.backbone.stem.eval()
    run(Watch(["ncm"], plot=False), model)
    ((before, after),) = seen
    for name, value in before[0].items():
        assert torch.equal(value, after[0][name]), name
    assert before[1:] == after[1:]


class WithLabels(nn.Linear):
    def forward(self, features, labels):
        return super().forward(features)


def test_parts_that_do_not_fit_are_told_before_the_training():
    model = Between(nn.Linear(16, 8))
    model.head = nn.Linear(8, 3)
    with pytest.raises(LongTailError, match=r"The Linear of Between cannot take the 16 features .* made for 8\)"):
        run(retrain(["ncm"]), model)
    model.head = nn.Sequential(nn.Linear(8, 3))
    with pytest.raises(LongTailError, match=r"The Sequential of Between cannot take the 16 features .*1x16 and 8x3"):
        run(retrain(["ncm"]), model)
    model.head = WithLabels(16, 3)
    with pytest.raises(LongTailError, match=r"The WithLabels of Between cannot take the 16 features .*'labels'"):
        run(retrain(["ncm"]), model, num_sanity_val_steps=0)
    model = Between()
    model.backbone = nn.Conv2d(3, 8, 3)
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(LongTailError, match=r"Conv2d gives \(1, 8, 6, 6\) for 1 inputs, .*: pool or flatten"):
        run(retrain(["ncm"]), model)
    assert model.steps == 0


def test_weights_in_pieces_are_not_run(monkeypatch):
    # A part of a sharded module would wait for weights that other processes have.
    monkeypatch.setattr(_check_forward, "_SHARDED", (SingleDeviceStrategy,))
    model = Between(Scaled())
    run(TauSweep(plot=False), model)
    assert model.steps


def test_several_crops_of_an_image():
    images, labels = loaders()[0].dataset.tensors
    crops = torch.utils.data.TensorDataset(images[:, None].repeat(1, 2, 1, 1, 1), labels)
    loader = torch.utils.data.DataLoader(crops, batch_size=8)
    model = BaseClassifier([24, 12, 4], backbone=CIFARResNet(8, width=4), head=CosineHead)
    retraining = retrain(["ncm"])
    tiny_trainer(callbacks=[retraining], max_epochs=1).fit(model, loader, loader)
    assert retraining.rows


def refuse_on_ranks(between):
    model = Between(nn.Linear(16, 16) if between else None)
    trainer = tiny_trainer(callbacks=[retrain(["ncm"], many=20, few=10)], max_epochs=1, strategy="ddp", devices=2)
    try:
        trainer.fit(model, *loaders())
    except LongTailError as error:
        return str(error)
    return model.steps > 0


def test_two_ranks(pool):
    first, second = pool.run(refuse_on_ranks, True)
    assert first == second
    assert first.startswith("The forward of Between is not head(backbone(images))")
    assert pool.run(refuse_on_ranks, False) == [True, True]
