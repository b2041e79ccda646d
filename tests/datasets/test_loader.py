from __future__ import annotations

import gc
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from longtail_lightning import InstanceBalancedSampler, LongTailError
from longtail_lightning.datasets.loader import ResumableLoader, SeededDataset, collate


class Noisy(Dataset):
    """Augments with all three global generators."""

    labels = [0] * 10

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor([index, float(torch.rand(())), random.random(), np.random.rand()])


def loader(workers=0, batch_size=3, seed=0):
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    dataset = SeededDataset(Noisy(), seed)
    return ResumableLoader(dataset, batch_size=batch_size, sampler=InstanceBalancedSampler(Noisy.labels), **options)


def epochs(loader, number=2):
    result = []
    for epoch in range(number):
        loader.sampler.set_epoch(epoch)
        result.append(torch.cat(list(loader)))
    return result


def test_augmentations_do_not_depend_on_the_number_of_workers():
    expected = epochs(loader())
    for got, want in zip(epochs(loader(workers=2)), expected):
        torch.testing.assert_close(got, want)
    assert not torch.equal(expected[0][:, 1].sort().values, expected[1][:, 1].sort().values)


@pytest.mark.parametrize("workers", [0, 2])
def test_continues_after_the_batches_that_are_done(workers):
    full = epochs(loader())
    resumed = loader(workers)
    resumed.load_state_dict({"batches": 2})
    first, second = epochs(resumed)
    torch.testing.assert_close(first, full[0][6:])
    torch.testing.assert_close(second, full[1])


def test_workers_end_with_their_loader():
    gc.collect()
    gc.disable()  # a circle of references would keep them until it runs
    try:
        made = loader(workers=2)
        next(iter(made))
        workers = made._iterator._workers
        del made
        assert not any(worker.is_alive() for worker in workers)
    finally:
        gc.enable()


def test_counts_what_was_handed_out():
    batches = loader()
    iterator = iter(batches)
    next(iterator), next(iterator)
    assert batches.state_dict() == {"batches": 2, "epoch": 0}
    assert len(batches) == 4


def test_even_a_batch_of_one_image_changes_from_epoch_to_epoch():
    first, second = epochs(loader(batch_size=1))
    assert set(first[:, 0].tolist()) == set(second[:, 0].tolist())
    assert not set(first[:, 1].tolist()) & set(second[:, 1].tolist())


def test_the_global_generators_are_left_alone():
    states = random.getstate(), np.random.get_state()[1].tolist()
    list(loader())
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]


class FaultError(LongTailError):
    """Says which item is at fault."""

    def __init__(self, message="", *, item=None):
        super().__init__(message)
        self.item = item


class Faulty(Noisy):
    def __getitem__(self, index):
        if index == 4:
            raise FaultError("Caught FaultError: 4, and\nmore: of it.", item=4)
        return index


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_loading_process_arrives_whole(workers):
    batches = ResumableLoader(SeededDataset(Faulty()), batch_size=3, num_workers=workers)
    with pytest.raises(FaultError) as error:
        list(batches)
    assert error.value.item == 4
    assert str(error.value) == "Caught FaultError: 4, and\nmore: of it."


class Whole(Dataset):
    """Gives batches in one piece, and counts how often it is asked."""

    labels = [0] * 10
    asked = 0

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor([float(index)]), 0

    def batch(self, indices):
        self.asked += 1
        return torch.tensor(indices).float().unsqueeze(1), torch.zeros(len(indices), dtype=torch.int64)


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(Subset(d, range(2, 10)), [3, 0, 5, 1, 2])])
def test_a_data_set_that_gives_batches_is_asked_once_per_batch(wrap):
    whole = Whole()
    expected = [item.tolist() for item in DataLoader([wrap(whole)[i][0] for i in range(5)], batch_size=2)]
    batches = list(ResumableLoader(SeededDataset(wrap(whole)), batch_size=2, collate_fn=collate))
    assert [images.tolist() for images, *_ in batches][:2] == expected[:2]
    assert whole.asked == len(batches)
    assert batches[0][1].dtype == torch.int64


def test_a_transform_is_applied_to_each_image():
    dataset = SeededDataset(Whole(), transform=lambda image: image + 1)
    assert dataset[3] == (torch.tensor([4.0]), 0)
    assert [item[0].item() for item in dataset.__getitems__([0, 9])] == [1.0, 10.0]
