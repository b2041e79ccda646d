from __future__ import annotations

from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset
from torchvision.transforms.v2.functional import to_pil_image

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    IdentityBackbone,
    ImageTransforms,
    LongTailDataModule,
    extract_features,
    labels_of,
)
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
        ({"imbalance_factor": 0}, "imbalance_factor=0 must be at least 1"),
        ({"profile": "step"}, "profile='step' does nothing without imbalance_factor"),
        ({"mixup_alpha": -1.0}, "mixup_alpha=-1.0, cutmix_alpha=0.0"),
    ],
)
def test_bad_data_are_named_with_the_fix(options, message):
    with pytest.raises(LongTailError, match=message):
        Mine(**options).train_dataloader()


class Stream(IterableDataset):
    labels = LABELS

    def __iter__(self):
        yield from ((torch.zeros(3, 8, 8), int(label)) for label in LABELS)


class Streaming(Mine):
    def build(self, split):
        return Stream()


def test_a_stream_is_refused_in_one_sentence():
    with pytest.raises(LongTailError, match="the train split is a Stream, which can only be read from its beginning"):
        _ = Streaming().class_counts


@pytest.mark.parametrize("options", [{"imbalance_factor": 100}, {"profile": [30, 9, 3, 0, 0]}])
def test_a_class_that_the_tail_leaves_without_images_is_still_a_class(options):
    every = torch.arange(5).repeat(30)
    data = Mine(train=every, val=every[:10], test=every[:10], batch_size=32, **options)
    assert data.class_counts.tolist() == [30, 9, 3, 0, 0]
    model, trainer = tiny_model(data), tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    assert trainer.test(model, data, verbose=False)[0]["test/acc"] == trainer.callback_metrics["test/acc"]


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
    plain = [data.prepare_batch(batch[0]) for batch in data.train_dataloader()]
    assert not torch.equal(torch.cat(plain), seen[0])


def test_a_sampler_without_a_seed_of_its_own_follows_the_data():
    drawn = [list(tiny_data(sampler=ClassBalancedSampler, seed=seed).train_dataloader().sampler) for seed in (0, 5)]
    assert drawn[0] != drawn[1]
    own = partial(ClassBalancedSampler, seed=3)
    drawn = [list(tiny_data(sampler=own, seed=seed).train_dataloader().sampler) for seed in (0, 5)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("sampler", ["ClassBalancedSampler", ClassBalancedSampler([0, 1]), lambda: None])
def test_a_sampler_is_made_from_the_labels(sampler):
    with pytest.raises(LongTailError, match=r"sampler=.* cannot be called with the labels, .*: give what can, such as"):
        Mine(sampler=sampler).train_dataloader()


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


class Odd(Mine):
    """Items of a form that the user chooses."""

    form = staticmethod(lambda image: image)

    def build(self, split):
        dataset = [self.form(torch.full((3, 8, 8), place % 200, dtype=torch.uint8)) for place in range(27)]
        return type("List", (list,), {"labels": LABELS})(dataset)


@pytest.mark.parametrize("form", [lambda image: image, lambda image: (image,)])
def test_images_alone_cannot_be_trained_on(form):
    data = Odd(batch_size=4)
    data.form = form
    with pytest.raises(LongTailError, match="gives batches as images alone"):
        tiny_trainer(limit_val_batches=0).fit(BaseClassifier([20, 6, 1], backbone=IdentityBackbone(192)), data)
    with pytest.raises(LongTailError, match="gives batches as images alone"):
        extract_features(torch.nn.Flatten(), data, augment=True, progress=False)


@pytest.mark.parametrize("workers", [0, 1])
def test_items_that_make_no_batch_are_one_sentence(workers):
    data = Odd(batch_size=4, num_workers=workers)
    data.form = lambda image: (to_pil_image(image), 0)
    with pytest.raises(LongTailError, match=r"Items cannot be put into a batch .*images as tensors"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize("base", [Mine, ImageTransforms])
def test_an_augmentation_without_keys_is_told(base):
    def augment(self, images):
        return images

    old = type("Old", (base,), {"augment_batch" if base is Mine else "augment": augment})()
    data = old if base is Mine else Mine(transforms=old)
    with pytest.raises(LongTailError, match=r"Old.augment\w*\(images\) must take \(images, keys\)"):
        data.prepare_batch(torch.zeros(2, 3, 8, 8), augment=True)


def test_an_array_at_the_end_of_a_batch_is_the_users():
    images, labels = torch.zeros(4, 3, 8, 8), torch.zeros(4)
    for own in (np.arange(4), np.zeros((4, 2)), np.zeros((5, 2), dtype=np.int64)):
        assert Mine().on_after_batch_transfer([images, labels, own], 0)[2] is own


def test_uint8_images_are_scaled_and_normalized():
    data = tiny_data()
    images = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(data.mean)) / torch.tensor(data.std)
    batch = data.on_after_batch_transfer([images, torch.zeros(2)], 0)
    torch.testing.assert_close(batch[0][0, :, 0, 0], expected)


class Pictures(LongTailDataModule):
    """12 + 6 images of 8x8, a gray value each."""

    def build(self, split):
        labels = torch.tensor([0] * 12 + [1] * 6)
        values = torch.arange(18, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        return TensorDataset(values.contiguous(), labels) if split != "val" else None


class Noisy(ImageTransforms):
    """Training adds a random number to each image, evaluation adds 100."""

    def __init__(self):
        super().__init__()
        self.train = lambda image: image + torch.randint(1, 50, (), dtype=torch.uint8)
        self.evaluate = lambda image: image + 100


def gray(loader) -> list[int]:
    return torch.cat([images[:, 0, 0, 0] for images, *_ in loader]).tolist()


def test_held_out_images_are_not_augmented():
    data = Pictures(transforms=Noisy(), val_split=0.5, batch_size=4)
    val = gray(data.val_dataloader())
    assert len(val) == 9
    assert all(value >= 100 for value in val)
    assert all(value < 100 for value in gray(data.train_dataloader()))


def test_ordered_batches_for_features():
    data = Pictures(transforms=Noisy(), batch_size=4)
    assert gray(data.ordered_dataloader("train")) == list(range(100, 118))
    assert gray(data.ordered_dataloader("train", indices=[3, 1])) == [103, 101]
    augmented = gray(data.ordered_dataloader("train", augment=True))
    assert augmented == gray(data.ordered_dataloader("train", augment=True))
    assert augmented != gray(data.ordered_dataloader("train", augment=True, view=1))
    with pytest.raises(LongTailError, match="Pictures has no val split"):
        data.ordered_dataloader("val")


def test_any_data_set_becomes_long_tailed():
    data = Pictures(imbalance_factor=6, profile="exp", subset_seed=1, batch_size=4)
    assert data.class_counts.tolist() == [9, 1]  # the mean class has 9 images
    assert data.subset_id.name == "Pictures-exp-6"
    data = Pictures(profile=[4, 2])
    assert data.class_counts.tolist() == [4, 2]
    assert data.subset_id.name == "Pictures-counts"
    assert data.subset_id.images == 6
    assert Pictures().subset_id is None


def test_the_subset_is_told_and_kept(capsys, tmp_path):
    def run(max_epochs, **options):
        data = tiny_data(imbalance_factor=1)
        data.profile = [6, 5, 4, 3, 2, 1]
        data.subset_seed = options.pop("subset_seed", 0)
        model = tiny_model(data)
        logger = L.pytorch.loggers.CSVLogger(tmp_path)
        trainer = tiny_trainer(max_epochs=max_epochs, logger=logger)
        trainer.fit(model, data, **options)
        return trainer, str(data.subset_id)

    trainer, name = run(1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    checkpoint = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert checkpoint["SyntheticLongTail"]["subset"] == name
    assert name in (tmp_path / "lightning_logs" / "version_0" / "hparams.yaml").read_text()
    run(2, ckpt_path=tmp_path / "one.ckpt")
    with pytest.raises(LongTailError, match="was trained on the subset SyntheticLongTail-counts, seed 0"):
        run(2, ckpt_path=tmp_path / "one.ckpt", subset_seed=1)


def test_several_views_of_an_image_give_their_mean_logits():
    data = tiny_data()
    model = tiny_model(data).eval()
    views = torch.rand(3, 5, 3, 32, 32)
    expected = torch.stack([model(views[:, view]) for view in range(5)]).mean(0)
    assert torch.allclose(model(views), expected, atol=1e-5)


def test_a_resume_with_other_images_is_refused():
    every = torch.arange(3).repeat(12)

    def fit(epochs, ckpt_path=None, **options):
        data = Mine(train=every, batch_size=8, **options)
        trainer = tiny_trainer(max_epochs=epochs)
        trainer.fit(tiny_model(data), data, ckpt_path=ckpt_path, weights_only=True)
        return trainer

    fit(1).save_checkpoint("all.ckpt")
    fit(2, "all.ckpt", seed=1)  # another order of the same images
    with pytest.raises(LongTailError, match="was trained on all images, this run has Mine-exp-2"):
        fit(2, "all.ckpt", imbalance_factor=2)
    with pytest.raises(LongTailError, match=r"with no held-out images, this run has val_split=0\.25, seed=0"):
        fit(2, "all.ckpt", val_split=0.25)
    fit(1, val_split=0.25).save_checkpoint("held.ckpt")
    with pytest.raises(LongTailError, match=r"with val_split=0\.25, seed=0, this run has val_split=0\.25, seed=1"):
        fit(2, "held.ckpt", val_split=0.25, seed=1)


class SaveAt(L.Callback):
    """Saves in the middle of the first epoch."""

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 2:
            trainer.save_checkpoint("middle.ckpt")


def test_a_checkpoint_that_was_evaluated_does_not_shorten_the_next_fit():
    data = tiny_data()
    tiny_trainer(max_epochs=1, callbacks=[SaveAt()]).fit(tiny_model(data), data)
    data = tiny_data()
    tiny_trainer().validate(tiny_model(data), data, ckpt_path="middle.ckpt", verbose=False, weights_only=True)
    watch = Watch()
    tiny_trainer(max_epochs=1, callbacks=[watch]).fit(tiny_model(data), data)
    assert len(watch.images) == 5


def test_a_checkpoint_is_tested_beside_any_training_subset():
    every = torch.arange(3).repeat(12)
    data = Mine(train=every, test=every, imbalance_factor=4)
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint("four.ckpt")
    other = Mine(train=every, test=every, imbalance_factor=2)
    tiny_trainer().test(tiny_model(data), other, ckpt_path="four.ckpt", verbose=False, weights_only=True)


def test_data_that_were_built_in_inference_mode_can_be_trained_on():
    data = tiny_data()
    with torch.inference_mode():  # in which Lightning sets data up for an evaluation
        assert data.class_counts.total == 38
    next(iter(data.train_dataloader()))


class Batches(L.Callback):
    """Keeps what the module is given."""

    def __init__(self):
        self.kept = {}

    def keep(self, stage, batch):
        self.kept.setdefault(stage, []).append(batch)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.keep("train", batch)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.keep("test", batch)

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.keep("predict", batch)


@pytest.mark.parametrize("with_index", [False, True])
def test_which_items_a_batch_holds(with_index):
    data, keep = tiny_data(with_index=with_index), Batches()
    model, trainer = tiny_model(data), tiny_trainer(max_epochs=1, callbacks=[keep])
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data)
    for stage, batches in keep.kept.items():
        split = "train" if stage == "train" else "test"
        if not with_index and stage != "predict":
            assert all(len(batch) == 2 for batch in batches)
            continue
        index = torch.cat([batch[2] for batch in batches])
        assert index.dtype == torch.int64
        assert index.sort().values.tolist() == list(range(len(data.labels(split))))
        assert torch.equal(torch.cat([batch[1] for batch in batches]), data.labels(split)[index])


def test_more_that_an_item_has_comes_after_its_place():
    class Longer(Mine):
        def build(self, split):
            dataset = super().build(split)
            return dataset and TensorDataset(*dataset.tensors[:1], torch.arange(27) + 100, dataset.tensors[1])

        def labels(self, split):
            return LABELS

    data = Longer(with_index=True, batch_size=4)
    batch = next(iter(data._loader(data.dataset("train"), range(27))))
    _, numbers, index, labels = data.on_after_batch_transfer(batch, 0)
    assert numbers.tolist() == [100, 101, 102, 103]
    assert index.tolist() == [0, 1, 2, 3]
    assert labels.tolist() == [0, 0, 0, 0]


def test_a_loader_that_does_not_say_its_items_cannot_give_their_places():
    data = tiny_data(with_index=True)
    with pytest.raises(LongTailError, match="does not say which items its batches hold"):
        data.on_after_batch_transfer([torch.zeros(2, 3, 4, 4), torch.zeros(2)], 0)
