from __future__ import annotations

from functools import partial

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    FeatureBank,
    FeatureDataModule,
    IdentityBackbone,
    LogitAdjustedLoss,
    SyntheticLongTail,
    extract_features,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.batch_pipeline import first_items
from tests.features.data import encoder, images
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
    data, pictures = features(), tiny_data()
    assert data.class_counts == pictures.class_counts
    assert data.class_names == pictures.class_names
    assert data.num_features == 16
    bank = extract_features(encoder(), pictures, split="test", progress=False)
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
    items = [first_items(len(train), view=view) for view in range(3)]
    drawn = [data.prepare_batch(train.views.transpose(0, 1), items=some, augment=True) for some in items]
    chosen = torch.stack([(one[:, None] == stacked).all(2).int().argmax(1) for one in drawn])
    for one, which in zip(drawn, chosen):
        assert torch.equal(one, stacked[torch.arange(len(train)), which])
    assert set(chosen.unique().tolist()) == {0, 1, 2}
    again = data.prepare_batch(train.views.transpose(0, 1), items=items[0], augment=True)
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


class Foreign(L.LightningDataModule):
    """Images of its own, which exist between `setup` and `teardown` only, and are scaled on the device."""

    def __init__(self, splits=("train", "val", "test")):
        super().__init__()
        self.splits, self.calls, self.images = splits, [], {}

    def prepare_data(self):
        self.calls.append("prepare")

    def setup(self, stage):
        self.calls.append(stage)
        self.images = {split: images(20, seed) for seed, split in enumerate(self.splits)}

    def teardown(self, stage):
        self.calls.append("end")
        self.images = {}

    def loader(self, split):
        return DataLoader(self.images[split], batch_size=4, shuffle=split == "train") if split in self.splits else None

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        return [self.loader("val")] if "val" in self.splits else []

    def test_dataloader(self):
        return self.loader("test")

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] * 3, batch[1]]


def tripled(seed):
    pixels, labels = images(20, seed).tensors
    return extract_features(encoder(), DataLoader(TensorDataset(pixels * 3, labels), batch_size=4), progress=False)


def test_of_any_data_module(tmp_path):
    foreign = Foreign()
    data = FeatureDataModule.from_encoder(foreign, encoder(), tmp_path, progress=False)
    assert foreign.calls == ["prepare", "fit", "end", "test", "end"]
    for seed, split in enumerate(("train", "val", "test")):
        bank = data.banks[split]
        assert torch.equal(bank.features, tripled(seed).features)
        assert torch.equal(bank.labels, images(20, seed).tensors[1])
        assert bank.fingerprint["data"]["split"] == split
    data = FeatureDataModule(tmp_path, batch_size=8)
    tiny_trainer(max_epochs=1).fit(model(data), data)


def test_a_data_module_without_some_splits_or_the_last_class():
    data = FeatureDataModule.from_encoder(Foreign(["train"]), encoder(), num_classes=7, progress=False)
    assert data.dataset("val") is data.dataset("test") is None
    assert data.class_counts.tolist() == [4, 4, 4, 4, 4, 0, 0]

    class Plain(L.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(images(20, 0))

    assert list(FeatureDataModule.from_encoder(Plain(), encoder(), progress=False).banks) == ["train"]


class Asks(Foreign):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch if self.trainer.training else super().on_after_batch_transfer(batch, dataloader_idx)


class Several(Foreign):
    def train_dataloader(self):
        return [self.loader("train")] * 2


class Overrides(SyntheticLongTail):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return super().on_after_batch_transfer(batch, dataloader_idx)


@pytest.mark.parametrize(
    ("datamodule", "message"),
    [
        (Asks(), r"hook of Asks fails outside of a Trainer .*'training'.*: let it work where self\.trainer is None"),
        (
            Several(),
            r"Several\.train_dataloader\(\) gives a list, not one DataLoader: make the banks with extract_feat",
        ),
        (Overrides(), r"Overrides overrides on_after_batch_transfer, .*: override prepare_batch"),
    ],
)
def test_what_would_be_left_out_is_told(datamodule, message):
    with pytest.raises(LongTailError, match=message):
        FeatureDataModule.from_encoder(datamodule, encoder(), progress=False)


def foreign_features(folder):
    foreign = Foreign()
    data = FeatureDataModule.from_encoder(foreign, encoder(), folder, progress=False)
    return foreign.calls, {split: bank.features.tolist() for split, bank in data.banks.items()}


@pytest.mark.parametrize("folder", [None, "banks"])
def test_two_processes_share_the_work(pool, tmp_path, folder):
    first, second = pool.run(foreign_features, folder and str(tmp_path / folder))
    _, alone = foreign_features(None)
    assert first[1] == second[1] == alone
    assert (first[0].count("prepare"), second[0].count("prepare")) == (1, 0)


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
