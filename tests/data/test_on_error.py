"""Broken images in training: named in one sentence, or replaced and told; and a loading process that dies."""

from __future__ import annotations

import os
import random
import re
import signal
import warnings
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from longtail_lightning import BaseClassifier, CIFARResNet, ImageList, LongTailDataModule, labels_of
from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.decode import UnreadableImageError
from longtail_lightning.datasets.loader import ResumableLoader
from longtail_lightning.datasets.seeded_dataset import SeededDataset
from tests.tiny import tiny_trainer

LABELS = [0] * 12 + [1] * 6 + [2]
BROKEN = (3, 14)  # one of class 0 and one of class 1
ASIDE = "ignore:.*of the images could not be decoded"


class Files(LongTailDataModule):
    """Plain-colored images; the red channel tells the index."""

    def __init__(self, root=".", test=None, **options):
        super().__init__(batch_size=4, **options)
        self.root, self.test = root, test

    def build(self, split):
        if split == "val" or (split == "test" and self.test is None):
            return None
        return ImageList([name(i) for i in range(len(LABELS))], LABELS, root=self.root)


def name(index):
    return f"class {LABELS[index]}/Error: {index}.png"  # a name that looks like the end of a traceback


@pytest.fixture
def write(tmp_path):
    def write(broken=BROKEN):
        for index in range(len(LABELS)):
            path = tmp_path / name(index)
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (10 * index, 0, 0)).save(path)
            if index in broken:
                path.write_bytes(path.read_bytes()[:40])
        return tmp_path

    return write


def seen(data, epoch=0):
    """Indices and labels of the batches of an epoch, and what was told about it."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        batches = [(images[:, 0, 0, 0] // 10, labels) for images, labels, _ in loader]
    return batches, [str(warning.message) for warning in told if "decoded" in str(warning.message)]


@pytest.mark.parametrize("workers", [0, 2])
def test_raising_names_the_file_in_one_sentence(write, workers):
    data = Files(write(), num_workers=workers)
    with pytest.raises(UnreadableImageError) as error:
        list(data.train_dataloader())
    files = rf"{re.escape(str(data.root))}/class \d/Error: (3|14)\.png"
    assert re.fullmatch(rf"{files} cannot be decoded \(.*\)\.", str(error.value))


@pytest.mark.parametrize("workers", [0, 2])
def test_skipping_keeps_the_batches_and_tells_the_files(write, workers):
    batches, told = seen(Files(write(), num_workers=workers, on_error="skip"))
    assert [len(images) for images, _ in batches] == [4, 4, 4, 4, 3]
    images, labels = (torch.cat(parts) for parts in zip(*batches))
    assert not set(images.tolist()) & set(BROKEN)
    assert torch.bincount(labels).tolist() == [12, 6, 1], "the classes keep their weight"
    assert torch.equal(torch.tensor(LABELS)[images.long()], labels), "each image comes with its own label"
    assert len(told) == 1
    assert told[0].startswith("2 of the images could not be decoded in this epoch")
    assert f"({name(3)}, {name(14)})" in told[0]


def test_replacements_do_not_depend_on_workers_and_change_from_epoch_to_epoch(write):
    root = write()

    def epoch(number, workers=0):
        batches, _ = seen(Files(root, num_workers=workers, on_error="skip"), number)
        return torch.cat([images for images, _ in batches]).tolist()

    assert epoch(0, workers=2) == epoch(0)
    replaced = {tuple(sorted(epoch(number))) for number in range(4)}
    assert len(replaced) > 1


@pytest.mark.filterwarnings(ASIDE)
@pytest.mark.parametrize("workers", [0, 2])
def test_the_items_of_a_batch_are_the_images_that_were_read(write, workers):
    root = write()
    loader = Files(root, num_workers=workers, on_error="skip").train_dataloader()
    wanted, places = list(loader._index_sampler), []
    for (images, _, items), asked in zip(loader, wanted, strict=True):
        assert items[:, 0].tolist() == (images[:, 0, 0, 0] // 10).tolist()
        assert items[:, 1].tolist() == asked[:, 1].tolist(), "the views are those that were asked for"
        readable = ~np.isin(asked[:, 0], BROKEN)
        assert (items[readable] == asked[readable]).all()
        places += items[:, 0].tolist()
    assert not set(places) & set(BROKEN)


def noisy(image):
    """What the global generators give, in the place of the pixels but for the first, which tells the index."""
    drawn = [torch.rand(1).item(), random.random(), np.random.rand()]
    return torch.tensor([image[0, 0, 0].item() // 10, *drawn], dtype=torch.float64)


@pytest.mark.filterwarnings(ASIDE)
@pytest.mark.parametrize("workers", [0, 2])
def test_what_stands_in_for_another_image_is_augmented_as_itself(write, workers):
    root = write()
    images = ImageList([name(i) for i in range(len(LABELS))], LABELS, root=root)
    skipping = SeededDataset(images, seed=5, view=3, transform=noisy, on_error="skip")
    (shown, _, items) = next(iter(ResumableLoader(skipping, batch_size=len(LABELS), num_workers=workers)))
    alone = SeededDataset(images, seed=5, view=3, transform=noisy)
    assert not set(items[:, 0].tolist()) & set(BROKEN)
    for image, (index, _) in zip(shown, items.tolist()):
        assert torch.equal(image, alone[index][0])


@pytest.mark.filterwarnings(ASIDE)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_module_gets_the_index_of_the_image_that_was_read(write, workers):
    told = []

    class Model(BaseClassifier):
        def training_step(self, batch, batch_idx):
            images, target, index = batch
            told.extend(zip((images[:, 0, 0, 0] * 255 / 10).round().int().tolist(), index.tolist()))
            return super().training_step((images, target), batch_idx)

    data = Files(write(), num_workers=workers, on_error="skip", with_index=True)
    tiny_trainer(max_epochs=1).fit(Model(data.class_counts, backbone=CIFARResNet(8, width=4)), data)
    assert len(told) == len(LABELS)
    assert all(shown == index for shown, index in told)


def test_a_class_without_any_readable_image_is_replaced_by_others(write):
    lost = [index for index, label in enumerate(LABELS) if label]
    batches, told = seen(Files(write(broken=lost), on_error="skip"))
    images, labels = (torch.cat(parts) for parts in zip(*batches))
    assert len(images) == len(LABELS)
    assert labels.eq(0).all()
    assert told[0].startswith("7 of the images")


@pytest.mark.filterwarnings(ASIDE)
def test_when_nothing_can_be_read_training_stops(write):
    with pytest.raises(UnreadableImageError, match=r"is the disk still there\? `ltl data check`"):
        list(Files(write(broken=range(len(LABELS))), on_error="skip").train_dataloader())


def test_an_epoch_without_broken_images_is_silent(write):
    assert seen(Files(write(broken=()), on_error="skip"))[1] == []


def test_evaluation_never_skips(write):
    data = Files(write(), test=True, on_error="skip")
    with pytest.raises(UnreadableImageError, match=re.escape(name(3))):
        list(data.test_dataloader())


class Keep(L.Callback):
    """What training saw; may stop after a step as a kill would."""

    def __init__(self, stop=None):
        self.images, self.stop = [], stop

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.images.append((batch[0][:, 0, 0, 0] * 255 / 10).round().tolist())

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.stop:
            trainer.save_checkpoint("stopped.ckpt")
            raise KeyboardInterrupt


def fit(root, keep, workers=0, ckpt_path=None, **options):
    data = Files(root, num_workers=workers, on_error="skip")
    model = BaseClassifier(data.class_counts, backbone=CIFARResNet(8, width=4))
    tiny_trainer(max_epochs=2, callbacks=[keep], **options).fit(model, data, ckpt_path=ckpt_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_tells_at_the_end_of_each_epoch(write, workers):
    root = write()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit(root, Keep(), workers)
    texts = [str(warning.message) for warning in told if "could not be decoded" in str(warning.message)]
    assert len(texts) == 2
    assert all(text.startswith("2 of the images") for text in texts)


@pytest.mark.filterwarnings(ASIDE)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [2, 7])
def test_a_resumed_run_sees_the_same_replacements(write, stop, workers):
    root = write()
    full, first, second = Keep(), Keep(stop), Keep()
    fit(root, full)
    with pytest.raises(SystemExit):
        fit(root, first, workers)
    fit(root, second, workers, ckpt_path="stopped.ckpt")
    assert first.images + second.images == full.images


@pytest.mark.filterwarnings("ignore")
def test_an_epoch_that_is_cut_short_is_told_too(write):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit(write(broken=range(11)), Keep(), limit_train_batches=4)
    assert sum("could not be decoded" in str(warning.message) for warning in told) == 2


def skipped_on_this_rank(root):
    data = Files(root, on_error="skip")
    batches, told = seen(data)
    return torch.cat([images for images, _ in batches]).tolist(), told


def test_each_rank_replaces_its_own_and_tells_it(write, pool):
    (first, told_first), (second, told_second) = pool.run(skipped_on_this_rank, str(write()))
    assert len(first) == len(second) == 10
    assert not (set(first) | set(second)) & set(BROKEN)
    told = " ".join(told_first + told_second)
    assert name(3) in told
    assert name(14) in told


def test_data_sets_from_elsewhere(write):
    root = write()

    class Folder(LongTailDataModule):
        def build(self, split):
            folder = ImageFolder(root)
            folder.transform = partial(_pixels)
            return folder

    with pytest.raises(UnreadableImageError, match=r"Error: (3|14)\.png cannot be read \(.*\)"):
        list(Folder().train_dataloader())
    data = Folder(on_error="skip", batch_size=19)
    with pytest.warns(UserWarning, match=r"2 of the images .*Error: "):
        ((images, labels, _),) = list(data.train_dataloader())
    assert torch.bincount(labels).tolist() == torch.bincount(labels_of(data.dataset("train"))).tolist()
    assert len(images) == 19


def _pixels(image):
    return torch.tensor(image.getpixel((0, 0)))


class Deadly(Dataset):
    """Kills the process that asks for item 6."""

    labels = [0] * 8

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(3, 4, 4, dtype=torch.uint8), 0


class Killed(LongTailDataModule):
    def build(self, split):
        return Deadly()


# The thread that feeds the dead process may miss it as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_worker_is_told_in_one_sentence():
    loader = Killed(batch_size=2, num_workers=2).train_dataloader()
    with pytest.raises(LongTailError) as error:
        list(loader)
    assert loader._iterator is None, "the other process has ended, and the loader can begin again"
    assert re.fullmatch(r"A process that loads images has died( \(Killed\))?: most often [^.]*\.", str(error.value))
