"""Checkpoints load with nothing passed, under weights_only, whatever happened to the parts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    ClassCounts,
    CosineHead,
    DescribedModule,
    LinearHead,
    LogitAdjustedLoss,
    LongTailReport,
    load,
)
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def save(model, data, path="model.ckpt", **options):
    trainer = tiny_trainer(max_epochs=1, **options)
    trainer.fit(model, data)
    trainer.save_checkpoint(path)
    return trainer


def same_logits(first, second):
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(first.eval()(images), second.eval()(images))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": LogitAdjustedLoss(tau=2.0), "head": partial(CosineHead, scale=9.0)},
        {"backbone": "cifar_resnet20", "loss": nn.CrossEntropyLoss(label_smoothing=0.1), "head": LinearHead(64, 6)},
        {"optimizer": lambda params: torch.optim.AdamW(params, lr=1e-3)},
    ],
)
def test_reloads_with_nothing_passed(options):
    data = tiny_data()
    model = tiny_model(data, **options)
    save(model, data)
    reloaded = BaseClassifier.load_from_checkpoint("model.ckpt", weights_only=True)
    same_logits(model, reloaded)
    assert type(reloaded.loss) is type(model.loss)
    assert getattr(reloaded.loss, "tau", None) == getattr(model.loss, "tau", None)
    assert reloaded.class_counts == model.class_counts


def test_a_checkpoint_holds_plain_values_only():
    data = tiny_data()
    save(tiny_model(data, loss=LogitAdjustedLoss()), data)
    checkpoint = torch.load("model.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["class_counts"] == data.class_counts.tolist()
    assert checkpoint["longtail_lightning"]["parts"]["loss"]["spec"]["class_path"].endswith("LogitAdjustedLoss")


def test_a_head_replaced_after_training_comes_back():
    data = tiny_data()
    model = tiny_model(data)
    trainer = save(model, data)
    model.head = CosineHead(model.backbone.num_features, 6, scale=20.0, learnable_scale=False)
    trainer.save_checkpoint("replaced.ckpt")
    reloaded = BaseClassifier.load_from_checkpoint("replaced.ckpt")
    same_logits(model, reloaded)
    # And a trainer tests and predicts from the file, whatever head the given model has.
    tested = tiny_model(data)
    tiny_trainer().test(tested, data, ckpt_path="replaced.ckpt", verbose=False, weights_only=True)
    same_logits(model, tested)


def test_what_is_passed_wins():
    data = tiny_data()
    save(tiny_model(data, loss=LogitAdjustedLoss(tau=2.0)), data)
    reloaded = BaseClassifier.load_from_checkpoint("model.ckpt", loss=LogitAdjustedLoss(tau=3.0))
    assert reloaded.loss.tau == 3.0


def test_a_resumed_run_keeps_the_loss_of_the_script():
    data = tiny_data()
    save(tiny_model(data, loss=LogitAdjustedLoss(tau=1.0)), data)
    model = tiny_model(data, loss=LogitAdjustedLoss(tau=0.5))
    tiny_trainer(max_epochs=2).fit(model, data, ckpt_path="model.ckpt")
    assert model.loss.tau == 0.5


def test_a_part_that_cannot_be_described_is_asked_for():
    data = tiny_data()
    weighted = nn.CrossEntropyLoss(weight=torch.ones(6))
    save(tiny_model(data, loss=weighted), data)
    reloaded = BaseClassifier.load_from_checkpoint("model.ckpt", loss=nn.CrossEntropyLoss(weight=torch.ones(6)))
    assert isinstance(reloaded.loss.loss, nn.CrossEntropyLoss)
    model = tiny_model(data, loss=LogitAdjustedLoss())
    model.backbone = Foreign()
    model.head = LinearHead(3, 6)
    save(model, data, "foreign.ckpt")
    with pytest.raises(LongTailError, match=r"backbone is a Foreign.*load_from_checkpoint\(path, backbone=\.\.\.\)"):
        BaseClassifier.load_from_checkpoint("foreign.ckpt")
    same_logits(model, BaseClassifier.load_from_checkpoint("foreign.ckpt", backbone=Foreign()))


class Foreign(nn.Module):
    num_features = 3

    def __init__(self, *, secret=object()):  # noqa: B008
        super().__init__()

    def forward(self, images):
        return images.mean((2, 3))


def test_pretrained_weights_are_not_downloaded_again(monkeypatch):
    import timm

    asked = []
    create = timm.create_model

    def watch(name, pretrained=False, **options):
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", watch)
    data = tiny_data()
    model = tiny_model(data, backbone="resnet10t", pretrained=True)
    tiny_trainer().strategy.connect(model)
    trainer = save(model, data, limit_train_batches=1)
    BaseClassifier.load_from_checkpoint("model.ckpt")
    assert trainer is not None
    assert asked[0] is True
    assert not any(asked[1:])


def test_averaged_weights_are_what_a_checkpoint_holds():
    data = tiny_data()
    model = tiny_model(data)
    save(model, data, callbacks=[EMAWeightAveraging(decay=0.9)])
    same_logits(model, BaseClassifier.load_from_checkpoint("model.ckpt"))


def test_reloads_into_a_subclass():
    data = tiny_data()
    model = Mine(data.class_counts, extra=3)
    save(model, data)
    reloaded = Mine.load_from_checkpoint("model.ckpt")
    assert reloaded.extra == 3
    same_logits(model, reloaded)


class Mine(BaseClassifier):
    def __init__(self, class_counts, *, extra=1):
        super().__init__(class_counts, backbone=CIFARResNet(8, width=4))
        self.extra = extra


def test_classes_in_another_order_than_those_of_the_data_are_told():
    data = tiny_data()
    save(tiny_model(data), data)
    other = tiny_data()
    other.class_names = [other.class_names[1], other.class_names[0], *other.class_names[2:]]
    model, told = BaseClassifier.load_from_checkpoint("model.ckpt"), f"Class 0 is '{data.class_names[0]}' to the"
    with pytest.warns(UserWarning, match=told):
        tiny_trainer().test(model, other, verbose=False)
    with pytest.warns(UserWarning, match=told):
        tiny_trainer().test(tiny_model(other), other, ckpt_path="model.ckpt", verbose=False)
    with pytest.warns(UserWarning, match=told):
        tiny_trainer().fit(tiny_model(other), other, ckpt_path="model.ckpt")
    model.set_classes([*data.class_counts.tolist(), 5], [*data.class_names, "one more"])
    model.head = LinearHead(model.backbone.num_features, 7)
    tiny_trainer(callbacks=[report := LongTailReport(plot=False)]).test(model, data, verbose=False)
    assert report.rows


def test_a_test_needs_no_names_of_the_data():
    class Nameless(type(tiny_data())):
        @property
        def class_names(self):
            raise LongTailError("there are no training images")

    data = tiny_data()
    save(tiny_model(data), data)
    nameless = Nameless(num_classes=6, max_count=12, imbalance_factor=4, val_per_class=3, test_per_class=3)
    tiny_trainer().test(BaseClassifier.load_from_checkpoint("model.ckpt"), nameless, verbose=False)


class Sharing(DescribedModule):
    """As a user writes one: a head that stands in two places, one ReLU, and no `save_hyperparameters`."""

    parts = ("body", "heads", "first")

    def __init__(self, class_counts, *, body=None, heads=None, first=None):
        super().__init__()
        self.class_counts = ClassCounts(class_counts)
        self.body, self.heads, self.first = body, heads, first

    def forward(self, images):
        features = self.body(images)
        return sum(head(features) for head in self.heads) + self.first(features)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        return {"logits": self(batch[0]), "target": batch[1]}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def test_modules_that_are_shared_are_shared_again():
    data = tiny_data()
    head, act = LinearHead(16, 6), nn.ReLU()
    body = nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), act, nn.Linear(16, 16), act)
    model = Sharing(data.class_counts, body=body, heads=nn.ModuleList([head, head]), first=head)
    save(model, data)
    for again in (
        load("model.ckpt").module,
        Sharing.load_from_checkpoint("model.ckpt", class_counts=data.class_counts),
    ):
        assert again.heads[0] is again.heads[1] is again.first
        assert again.body[2] is again.body[4]
        same_logits(model, again)
    tiny_trainer(max_epochs=2).fit(Sharing(data.class_counts), data, ckpt_path="model.ckpt")
    other = LinearHead(16, 6)
    passed = load("model.ckpt", parts={"first": other}).module
    assert passed.first is other
    assert passed.heads[0] is not other
