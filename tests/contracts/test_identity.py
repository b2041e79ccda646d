"""What augmentation does to an item is a function of (seed, view, index): of nothing else, on any path."""

from __future__ import annotations

import warnings
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, SequentialSampler, Subset, TensorDataset

from longtail_lightning import (
    ArrayImages,
    BaseClassifier,
    ClassAwareSampler,
    ClassBalancedSampler,
    ClassUniformBatchSampler,
    DeferredResampling,
    IdentityBackbone,
    LongTailDataModule,
    PaddedCropTransforms,
    ResizedCropTransforms,
    extract_features,
)
from tests.tiny import tiny_trainer

LABELS = [0] * 40 + [1] * 20 + [2] * 10


def device_path() -> PaddedCropTransforms:
    """Everything is done to whole batches."""
    return PaddedCropTransforms(padding=3, cutout_size=5, mean=[0.4] * 3, std=[0.2] * 3)


def worker_path() -> ResizedCropTransforms:
    """Everything is done to single images, but for the noise."""
    return ResizedCropTransforms(
        image_size=10, resize=12, scale=(0.3, 1.0), color_jitter=0.4, auto_augment="rand", noise=0.05
    )


class Photographs(Dataset):
    """Images of several sizes, one by one, with something random of their own."""

    labels = LABELS

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(256, (3, 14 + index % 5, 13 + index % 3), generator=generator, dtype=torch.uint8)
        image[0, 0, 0] = int(torch.randint(256, ()))
        image[0, 0, 1] = np.random.randint(256)
        return image, LABELS[index]


class Data(LongTailDataModule):
    """The same images from the worker path and from the device path."""

    def build(self, split):
        if self.transforms.train is not None:
            dataset = Photographs()
        else:
            pixels = torch.randint(256, (len(LABELS), 3, 12, 12), generator=torch.Generator().manual_seed(0))
            dataset = ArrayImages(pixels.to(torch.uint8), LABELS)
        return dataset if split == "train" else Subset(dataset, range(0, len(LABELS), 7))


PATHS = {"device": device_path, "worker": worker_path}
each_path = pytest.mark.parametrize("path", PATHS)


def live(path, *, batch_size=16, num_workers=0, view=0, indices=None, **options):
    """Pixels of all items as they are augmented, in the order of the data."""
    data = Data(transforms=PATHS[path](), batch_size=batch_size, num_workers=num_workers, **options)
    batches = data.ordered_dataloader("train", indices=indices, augment=True, view=view)
    return torch.cat([data.prepare_batch(images, items=items, augment=True) for images, _, items in batches])


@each_path
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_neither_batch_nor_workers_matter(path, batch_size, num_workers):
    assert torch.equal(live(path, batch_size=batch_size, num_workers=num_workers), live(path))


@each_path
def test_nor_does_the_order(path):
    indices = [33, 2, 69, 2, 5]
    assert torch.equal(live(path, indices=indices, batch_size=2), live(path)[indices])


@each_path
def test_views_and_seeds_do(path):
    first = live(path)
    for other in (live(path, view=1), live(path, seed=1)):
        changed = (first != other).flatten(1).any(1)
        assert changed.float().mean() > 0.9


@each_path
def test_a_cached_view_is_the_live_one(path):
    data = Data(transforms=PATHS[path](), batch_size=8)
    encoder = IdentityBackbone(live(path)[0].numel())
    bank = extract_features(encoder, data, views=2, dtype=torch.float32, progress=False)
    for view in range(2):
        assert torch.equal(bank.views[view], live(path, view=view).flatten(1))
    assert torch.equal(bank.labels, torch.tensor(LABELS))


class Keep(L.Callback):
    """What training saw: pixels by item, in the order of the steps."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        images, labels, index = batch
        assert torch.tensor(LABELS)[index].equal(labels)
        self.seen += [(trainer.current_epoch, i, image.numpy().tobytes()) for i, image in zip(index.tolist(), images)]


SAMPLERS = {
    "instance": None,
    "balanced": partial(ClassBalancedSampler, num_samples=48),
    "groups": partial(ClassAwareSampler, samples_per_class=2, num_samples=48),
    "batches": partial(ClassUniformBatchSampler, classes_per_batch=2, samples_per_class=2, num_samples=48),
}


def trained(path, sampler, devices, batch_size, deferred=None, **options):
    """All that two epochs of training show, on this process; the second one by another sampler if one is given."""
    L.seed_everything(3, verbose=False)
    data = Data(transforms=PATHS[path](), sampler=SAMPLERS[sampler], batch_size=batch_size, with_index=True, **options)
    keep = Keep()
    callbacks = [keep] if deferred is None else [keep, DeferredResampling(start=1, sampler=SAMPLERS[deferred])]
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(max_epochs=2, limit_val_batches=0, callbacks=callbacks, **distributed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = live(path)[0].numel()
        trainer.fit(BaseClassifier(data.class_counts, backbone=IdentityBackbone(images), many=20, few=15), data)
    return keep.seen


@each_path
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_ranks_see_the_pixels_of_one(pool, path, sampler, tmp_path):
    alone = trained(path, sampler, 1, 8)
    first, second = pool.run(trained, path, sampler, 2, 4)
    assert sorted(first + second) == sorted(alone)


def test_two_ranks_see_the_pixels_of_one_after_the_sampler_was_changed(pool, tmp_path):
    alone = trained("device", "balanced", 1, 8, "groups")
    first, second = pool.run(trained, "device", "balanced", 2, 4, "groups")
    assert sorted(first + second) == sorted(alone)


@each_path
def test_workers_and_a_trainer_that_keeps_images_on_its_device(path):
    alone = trained(path, "balanced", 1, 8)
    other = {"device_resident": True} if path == "device" else {"num_workers": 2}
    assert trained(path, "balanced", 1, 8, **other) == alone


@each_path
def test_an_image_that_is_drawn_twice_is_augmented_in_two_ways(path):
    seen = trained(path, "balanced", 1, 8)
    drawn = [(epoch, index) for epoch, index, _ in seen]
    assert len(set(drawn)) < len(drawn), "some are drawn twice in an epoch"
    assert len({(index, pixels) for _, index, pixels in seen}) > 0.9 * len(seen)


@pytest.mark.parametrize("options", [{"sampler": SequentialSampler}, {"overfit_batches": 2}])
def test_epochs_differ_whatever_the_sampler(options):
    sampler, keep = options.get("sampler"), Keep()
    data = Data(transforms=device_path(), sampler=sampler, batch_size=8, with_index=True)
    trainer = tiny_trainer(limit_val_batches=0, callbacks=[keep], overfit_batches=options.get("overfit_batches", 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(BaseClassifier(data.class_counts, backbone=IdentityBackbone(3 * 12 * 12), many=20, few=15), data)
    first, second = ([(index, pixels) for epoch, index, pixels in keep.seen if epoch == e] for e in (0, 1))
    assert [index for index, _ in first] == [index for index, _ in second]
    assert len({*first, *second}) > 1.8 * len(first)


class Alone(LongTailDataModule):
    """A loader of the user's own, without items."""

    def build(self, split):
        return TensorDataset(torch.zeros(len(LABELS), 3, 12, 12, dtype=torch.uint8), torch.tensor(LABELS))

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.build("train"), batch_size=8)


class Pixels(L.Callback):
    """What training saw."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(batch[0].clone())


def test_a_loader_that_says_no_items_is_augmented_by_step():
    def run():
        data, pixels = Alone(transforms=worker_path()), Pixels()
        model = BaseClassifier(data.class_counts, backbone=IdentityBackbone(3 * 12 * 12), many=20, few=15)
        tiny_trainer(max_epochs=2, limit_val_batches=0, callbacks=[pixels]).fit(model, data)
        return pixels.seen

    first = run()
    assert torch.equal(torch.cat(first), torch.cat(run()))
    assert len({images.numpy().tobytes() for images in first}) == len(first)
