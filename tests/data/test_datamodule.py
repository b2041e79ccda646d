from __future__ import annotations

from functools import partial

import lightning as L
import pytest
import torch
from torch.utils.data import TensorDataset

from longtail_lightning import ClassBalancedSampler, LongTailDataModule, labels_of
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_data, tiny_model, tiny_trainer

LABELS = torch.tensor([0] * 20 + [1] * 6 + [2])


class Mine(LongTailDataModule):
    """Images whose pixels tell their index."""

    def __init__(self, *, train=LABELS, val=None, test=LABELS, **options):
        super().__init__(**options)
        self.splits = {"train": train, "val": val, "test": test}

    def build(self, split):
        labels = self.splits[split]
        if labels is None:
            return None
        images = torch.arange(len(labels)).float().view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        return TensorDataset(images, labels)


def indices(loader):
    return torch.cat([batch[0][:, 0, 0, 0] for batch in loader]).long().tolist()


def test_one_question_is_enough():
    data = Mine(batch_size=4)
    assert data.class_counts.tolist() == [20, 6, 1]
    assert data.class_names == ["0", "1", "2"]
    assert sorted(indices(data.train_dataloader())) == list(range(27))
    assert indices(data.test_dataloader()) == list(range(27))
    assert data.val_dataloader() == []


def test_held_out_images_come_from_training_class_by_class():
    data = Mine(val_split=0.25, batch_size=4)
    train, val = indices(data.train_dataloader()), indices(data.val_dataloader())
    assert sorted(train + val) == list(range(27))
    assert torch.bincount(labels_of(data.dataset("val")), minlength=3).tolist() == [5, 2, 0]
    assert data.class_counts.tolist() == [15, 4, 1], "counts are those of what is trained on"
    assert indices(Mine(val_split=0.25).val_dataloader()) == val
    assert indices(Mine(val_split=0.25, seed=1).val_dataloader()) != val


def test_a_real_validation_split_is_left_alone():
    data = Mine(val=LABELS[:5], val_split=0.25)
    assert data.class_counts.total == 27
    assert len(data.dataset("val")) == 5


def test_a_test_set_that_lacks_classes_is_told():
    with pytest.warns(UserWarning, match=r"no image of 1 of 3 classes \(2\): they are left out"):
        Mine(test=LABELS[:-1]).test_dataloader()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": torch.empty(0, dtype=torch.int64)}, "the train split is empty; check the data path"),
        ({"train": None}, "gave no data set"),
        ({"val_split": 1.5}, "must lie between 0 and 1"),
        ({"val_split": 0.5, "train": torch.arange(4)}, "every class has a single image"),
    ],
)
def test_bad_data_are_named_with_the_fix(options, message):
    with pytest.raises(LongTailError, match=message):
        Mine(**options).train_dataloader()


class Watch(L.Callback):
    """Keeps the images that training saw."""

    def __init__(self):
        self.images = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.images.append(batch[0].clone())


def test_augmentation_is_for_training_only_and_repeats():
    seen = []
    for _ in range(2):
        data, watch = tiny_data(), Watch()
        tiny_trainer(max_epochs=1, callbacks=[watch]).fit(tiny_model(data), data)
        seen.append(torch.cat(watch.images))
        torch.rand(3)
    assert torch.equal(*seen)
    plain = [data._normalize(batch[0]) for batch in data.train_dataloader()]
    assert not torch.equal(torch.cat(plain), seen[0])


def test_a_sampler_without_a_seed_of_its_own_follows_the_data():
    drawn = [list(tiny_data(sampler=ClassBalancedSampler, seed=seed).train_dataloader().sampler) for seed in (0, 5)]
    assert drawn[0] != drawn[1]
    own = partial(ClassBalancedSampler, seed=3)
    drawn = [list(tiny_data(sampler=own, seed=seed).train_dataloader().sampler) for seed in (0, 5)]
    assert drawn[0] == drawn[1]


def test_each_split_is_built_once():
    asked = []

    class Counting(Mine):
        def build(self, split):
            asked.append(split)
            return super().build(split)

    data = Counting(val_split=0.25)
    data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.val_dataloader()
    assert sorted(asked) == ["test", "train", "val"]


def test_batches_of_another_form():
    data = tiny_data()
    assert data.on_after_batch_transfer(torch.zeros(2, 3, 4, 4), 0).shape == (2, 3, 4, 4)
    with pytest.raises(LongTailError, match=r"gives batches as dict, expected \(images, labels\)"):
        data.on_after_batch_transfer({"image": 1}, 0)


def test_uint8_images_are_scaled_and_normalized():
    data = tiny_data()
    images = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(data.mean)) / torch.tensor(data.std)
    batch = data.on_after_batch_transfer([images, torch.zeros(2)], 0)
    torch.testing.assert_close(batch[0][0, :, 0, 0], expected)
