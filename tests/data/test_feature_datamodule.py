from __future__ import annotations

from functools import partial

import pytest
import torch

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    FeatureBank,
    FeatureDataModule,
    IdentityBackbone,
    LogitAdjustedLoss,
    extract_features,
)
from longtail_lightning._errors import LongTailError
from tests.features.data import encoder
from tests.modules.test_resume import Stop
from tests.tiny import tiny_data, tiny_trainer


def features(path=None, views=1, **options):
    return FeatureDataModule.from_encoder(
        tiny_data(), encoder(), path, views=views, progress=False, **{"batch_size": 8, **options}
    )


def model(data, **options):
    backbone = IdentityBackbone(data.num_features)
    return BaseClassifier(data.class_counts, backbone=backbone, many=8, few=4, **options)


def test_items_are_the_features_of_the_images():
    data, images = features(), tiny_data()
    assert data.class_counts == images.class_counts
    assert data.class_names == images.class_names
    assert data.num_features == 16
    bank = extract_features(encoder(), images, split="test", progress=False)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert torch.equal(torch.cat([batch[0] for batch in batches]), bank.features.float())
    assert torch.equal(torch.cat([batch[1] for batch in batches]), bank.labels)


def test_any_module_sampler_and_loss_trains_on_them():
    data = features(sampler=partial(ClassBalancedSampler, num_samples=200))
    trained = model(data, loss=LogitAdjustedLoss())
    before = trained.head.weight.clone()
    trainer = tiny_trainer(max_epochs=2)
    trainer.fit(trained, data)
    assert not torch.equal(trained.head.weight, before)
    (results,) = trainer.test(trained, data, verbose=False)
    assert 0 <= results["test/acc"] <= 1


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision(precision):
    data = features()
    trainer = tiny_trainer(max_epochs=1, precision=precision)
    trainer.fit(model(data), data)
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_training_takes_a_view_at_random_and_evaluation_the_first():
    data = features(views=3)
    train = data.banks["train"]
    stacked = train.views.transpose(0, 1).float()
    drawn = [data.prepare_batch(train.views.transpose(0, 1), augment=True, key=(epoch,)) for epoch in range(3)]
    chosen = torch.stack([(one[:, None] == stacked).all(2).int().argmax(1) for one in drawn])
    for one, which in zip(drawn, chosen):
        assert torch.equal(one, stacked[torch.arange(len(train)), which])
    assert set(chosen.unique().tolist()) == {0, 1, 2}
    again = data.prepare_batch(train.views.transpose(0, 1), augment=True, key=(0,))
    assert torch.equal(again, drawn[0])
    assert torch.equal(data.prepare_batch(train.views.transpose(0, 1)), train.features.float())
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model(data), data)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("stop", [3, 8])  # 5 batches per epoch
def test_a_stopped_run_repeats_an_uninterrupted_one(views, stop):
    def fit(stop=None, checkpoint=None):
        torch.manual_seed(0)
        data = features(views=views)
        module = model(data)
        trainer = tiny_trainer(max_epochs=3, callbacks=[Stop(stop)] if stop else [])
        if stop:
            with pytest.raises(SystemExit):
                trainer.fit(module, data)
        else:
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        return module.head.weight.tolist()

    whole = fit()
    fit(stop)
    assert fit(checkpoint="stopped.ckpt") == whole


def test_from_a_folder_of_banks(tmp_path):
    features(tmp_path / "bank", views=2)
    data = FeatureDataModule(tmp_path / "bank")
    assert data.class_counts == tiny_data().class_counts
    assert data._opened["train"].num_views == 2
    train = FeatureDataModule({"train": tmp_path / "bank" / "train"}, val_split=0.3)
    assert len(train.dataset("val")) + len(train.dataset("train")) == 38
    (batch,) = train.val_dataloader()
    assert train.on_after_batch_transfer(batch, 0)[0].shape == (len(train.dataset("val")), 16)
    assert train.dataset("test") is None


def test_predictions_are_called_by_the_ids_of_the_bank():
    bank = FeatureBank.from_arrays(torch.randn(3, 4), [0, 1, 1], ids=["a.jpg", "b.jpg", "c.jpg"])
    assert FeatureDataModule({"train": bank, "test": bank}).item_name(1) == "b.jpg"


def test_workers_give_the_same_batches(tmp_path):
    features(tmp_path)
    alone = list(FeatureDataModule(tmp_path, batch_size=8).train_dataloader())
    helped = list(FeatureDataModule(tmp_path, batch_size=8, num_workers=1).train_dataloader())
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(alone, helped, strict=True))


def test_bad_banks_are_named_with_the_fix(tmp_path):
    with pytest.raises(
        LongTailError, match=r"holds no bank of a training split, .*: make the banks with `ltl features"
    ):
        FeatureDataModule(tmp_path)
    bank = FeatureBank.from_arrays(torch.randn(3, 4), [0, 1, 1])
    with pytest.raises(LongTailError, match="banks has no 'train' split"):
        FeatureDataModule({"val": bank})
    with pytest.raises(LongTailError, match="banks has a split 'valid'"):
        FeatureDataModule({"train": bank, "valid": bank})
    for wrong in (
        FeatureBank.from_arrays(torch.randn(3, 5), [0, 1, 1]),
        FeatureBank.from_arrays(torch.randn(3, 4), [0, 1, 2]),
    ):
        with pytest.raises(
            LongTailError, match=r"The val bank, FeatureBank\(3 x .* does not go with FeatureBank\(3 x 4"
        ):
            FeatureDataModule({"train": bank, "val": wrong})
    cat, dog = (
        FeatureBank.from_arrays(torch.randn(3, 4), [0, 1, 1], class_names=names)
        for names in (["cat", "dog"], ["dog", "cat"])
    )
    FeatureDataModule({"train": cat, "val": bank, "test": cat})
    with pytest.raises(LongTailError, match=r"The test bank, .*of splits with the same classes"):
        FeatureDataModule({"train": cat, "test": dog})
    train, val = (
        extract_features(encoder(seed), tiny_data(), split=split, progress=False)
        for seed, split in ((0, "train"), (1, "val"))
    )
    with pytest.raises(LongTailError, match=r"The val bank was made by CIFARResNet \w+, not by CIFARResNet"):
        FeatureDataModule({"train": train, "val": val})
    with pytest.raises(LongTailError, match="made for num_features=8 but the data give 16"):
        IdentityBackbone(8)(torch.zeros(2, 16))
