"""Images that live on the device train the same run as images that are loaded, bit by bit."""

from __future__ import annotations

from functools import partial

import lightning as L
import numpy as np
import pytest
import torch

from longtail_lightning import ArrayLT, ClassBalancedSampler, LogitAdjustedLoss, PaddedCropTransforms
from longtail_lightning._errors import LongTailError
from tests.data.test_datamodule import Mine, Watch
from tests.modules.test_resume import Stop
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def small(**options):
    """38 images in memory, of 6 classes, with a test set; the first pixel tells the index."""
    counts = [12, 9, 6, 5, 3, 3]
    labels = np.random.RandomState(1).permutation(np.repeat(np.arange(6), counts))
    images = np.random.RandomState(2).randint(0, 256, (38, 12, 12, 3)).astype(np.uint8)
    images[:, 0, 0, 0] = np.arange(38)
    defaults = {"transforms": "cifar10", "batch_size": 8, "val_split": 0.2, "test": (images[:15], labels[:15])}
    return ArrayLT((images, labels), **{**defaults, **options})


def train(data, stop=None, resume=None, **trainer):
    L.seed_everything(7, verbose=False)
    model, watch = tiny_model(data, loss=LogitAdjustedLoss()), Watch()
    callbacks = [watch, *([Stop(stop)] if stop else [])]
    trainer = tiny_trainer(max_epochs=3, callbacks=callbacks, **trainer)
    if stop:
        with pytest.raises(SystemExit):
            trainer.fit(model, data)
        return None
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    (results,) = trainer.test(model, data, verbose=False)
    return watch.images, {name: value.clone() for name, value in model.state_dict().items()}, results


def same(first, second):
    assert len(first[0]) == len(second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0]))
    assert all(torch.equal(value, second[1][name]) for name, value in first[1].items())
    assert first[2] == pytest.approx(second[2], rel=0, abs=0, nan_ok=True)


OPTIONS = {
    "crop and flip": {},
    "balanced, with mixup": {"sampler": ClassBalancedSampler, "mixup_alpha": 0.5},
    "cutout": {"transforms": PaddedCropTransforms(cutout_size=4)},
    "subset": {"profile": [6, 5, 4, 3, 2, 2]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_equals_loading(name):
    same(train(small(**OPTIONS[name])), train(small(**OPTIONS[name], device_resident=True)))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_equals_loading_in_half_precision(precision):
    loaded, resident = (train(small(device_resident=there), precision=precision) for there in (False, True))
    same(loaded, resident)
    assert resident[0][0].dtype == (torch.bfloat16 if precision == "bf16-true" else torch.float32)


@pytest.mark.parametrize("stop", [2, 4, 6])  # 4 batches per epoch
def test_resume_equals_uninterrupted(stop):
    expected = train(small())
    train(small(device_resident=True), stop=stop)
    resumed = train(small(device_resident=True), resume="stopped.ckpt")
    same((expected[0][stop:], *expected[1:]), resumed)


def test_drawn_images_may_live_there_too():
    same(train(tiny_data()), train(tiny_data(device_resident=True)))


def fit_on_two_ranks(resident):
    torch.set_num_threads(1)
    return [
        (epoch, int(image))
        for epoch, images in enumerate(_seen(small(transforms="none", val_split=0, device_resident=resident)))
        for image in images
    ]


def _seen(data):
    seen = []

    class Epochs(L.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append([])

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen[-1] += (batch[0][:, 0, 0, 0] * 255).round().tolist()

    L.seed_everything(7, verbose=False)
    distributed = {"strategy": "ddp", "devices": 2}
    tiny_trainer(max_epochs=2, callbacks=[Epochs()], **distributed).fit(tiny_model(data), data)
    return seen


def test_two_ranks_see_each_image_once_per_epoch(pool):
    loaded, resident = pool.run(fit_on_two_ranks, False), pool.run(fit_on_two_ranks, True)
    assert resident == loaded
    for epoch in range(2):
        both = [image for rank in resident for number, image in rank if number == epoch]
        assert sorted(both) == list(range(38))


def augmented_on_two_ranks(resident):
    images, state, results = train(small(device_resident=resident), strategy="ddp", devices=2)
    return torch.cat(images).tolist(), {name: value.tolist() for name, value in state.items()}, results


def test_two_ranks_equal_loading(pool):
    assert pool.run(augmented_on_two_ranks, True) == pool.run(augmented_on_two_ranks, False)


def test_nothing_is_copied_where_the_images_are_already():
    data = small(device_resident=True)
    inner = data.train_dataloader().dataset.dataset
    assert inner.dataset is data._splits.whole("train")
    assert data.val_dataloader().dataset.dataset.dataset is inner.dataset


def test_evaluation_may_come_first():
    data = small(device_resident=True)
    with torch.inference_mode():
        images = data.prepare_batch(next(iter(data.val_dataloader()))[0])
    assert images.is_inference()
    assert not data._pipeline._kept.popitem()[1][0].is_inference(), "what is kept serves training, too"


def test_order_and_names_stay():
    data = small(device_resident=True)
    images = torch.cat([batch[0] for batch in data.ordered_dataloader("test", indices=[3, 1])])
    assert images[:, 0, 0, 0].tolist() == [3, 1]
    assert data.item_name(4) == "4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(small, num_workers=2), r"device_resident=True loads nothing: set num_workers=0 \(it is 2\)"),
        (partial(small, transforms="cifar10_auto"), "these transforms work image by image .*auto_augment"),
        (partial(small, transforms="imagenet"), "set device_resident=False"),
        (Mine, "TensorDataset has none to move"),
    ],
)
def test_what_cannot_live_there_is_said(make, message):
    with pytest.raises(LongTailError, match=message):
        make(device_resident=True).train_dataloader()
