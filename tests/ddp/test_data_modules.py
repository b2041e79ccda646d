"""Two gloo processes read image files like one."""

from __future__ import annotations

from collections import Counter

import lightning as L
import pytest

from longtail_lightning import BaseClassifier, CIFARResNet, ImageFolderLT, ImageListLT
from tests.data import trees
from tests.tiny import tiny_trainer


class Seen(L.Callback):
    """Which images this process saw: class and shade tell them apart."""

    def __init__(self):
        self.images = {"train": [], "val": [], "test": []}

    def keep(self, split, batch):
        shades = (batch[0].mean((1, 2, 3)) * 255).round().int().tolist()
        self.images[split] += zip(batch[1].tolist(), shades)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.keep("train", batch)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.keep("val", batch)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.keep("test", batch)


def run(kind, root, devices):
    L.seed_everything(3, verbose=False)
    options = {"transforms": "none", "batch_size": 2}
    if kind == "lists":
        lists = [f"My_LT_{split}.txt" for split in ("train", "val", "test")]
        data = ImageListLT(root, *lists, **options)
    else:
        data = ImageFolderLT(root, **options)
    seen = Seen()
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(max_epochs=1, callbacks=[seen], num_sanity_val_steps=0, **distributed)
    model = BaseClassifier(data.class_counts, backbone=CIFARResNet(8, width=4), many=5, few=3)
    trainer.fit(model, data)
    (results,) = trainer.test(model, data, verbose=False)
    return seen.images, {key: value for key, value in results.items() if value == value}


@pytest.mark.filterwarnings("ignore:Classes with a single image")
@pytest.mark.parametrize("kind", ["lists", "flat"])
def test_each_image_once(pool, tmp_path, kind):
    root = tmp_path / "data"
    # Of 11 and of 25 training images one is read twice, so that the ranks have equally many; evaluation never is.
    trees.lists(root) if kind == "lists" else trees.flat(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        single, _ = run(kind, str(root), 1)
    (first, results), (second, other) = pool.run(run, kind, str(root), 2)
    assert results == other
    for split in ("val", "test"):
        assert sorted(first[split] + second[split]) == sorted(single[split])
        assert first[split]
        assert second[split]
    both, alone = Counter(first["train"] + second["train"]), Counter(single["train"])
    assert set(both) == set(alone)
    assert both.total() == alone.total() + 1
    assert max(both.values()) == 2
