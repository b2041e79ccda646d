"""What extraction reads: in any order, by item, with the user's hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from longtail_lightning import ImageList, LongTailError
from longtail_lightning.features._source import LoaderSource, labels_of_batch, source_of
from tests.tiny import tiny_data

CPU = torch.device("cpu")


class Alone(Dataset):
    """Images without labels, with something random, and a method `batch` that is nobody else's business."""

    ids = np.array([f"page {i}" for i in range(7)])

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return torch.full((3, 4, 4), float(index)) + torch.rand(())

    def batch(self, indices):
        raise AssertionError("not asked for")


def pixels(source, indices, *, batch_size=3, num_workers=0, view=0):
    with source.loading(batch_size, num_workers):
        batches = list(source.loader(indices, augment=False, view=view))
    return torch.cat([source.prepare(batch, CPU, augment=False) for batch in batches])


def test_images_without_labels():
    source = source_of(DataLoader(Alone(), batch_size=3), None)
    (batch, *_) = source.loader(range(7), augment=False, view=0)
    assert labels_of_batch(batch) is None
    assert source.labels() is None
    assert source.ids() is Alone.ids, "no copy of a million strings"
    assert source.fingerprint()["number"] == 7
    assert pixels(source, range(7))[:, 0, 0, 0].long().tolist() == list(range(7))


def test_a_tuple_of_images_alone():
    source = source_of(DataLoader(TensorDataset(torch.rand(5, 3, 4, 4)), batch_size=2), None)
    (batch, *_) = source.loader(range(5), augment=False, view=0)
    assert labels_of_batch(batch) is None
    assert pixels(source, [4, 0]).shape == (2, 3, 4, 4)
    assert source.known_labels() is None, "a data set of images is not one of labels"


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}, {"num_workers": 2}])
def test_what_a_loader_draws_depends_on_view_and_item(options):
    source = source_of(DataLoader(Alone()), None)
    expected = pixels(source, range(7))
    assert torch.equal(pixels(source, range(7), **options), expected)
    assert torch.equal(pixels(source, [5, 2], **options), expected[[5, 2]])
    assert not torch.equal(pixels(source, range(7), view=1), expected)


def test_hooks_see_batches_in_the_form_of_the_user():
    seen = []

    def hook(batch):
        seen.append(type(batch))
        return {"images": batch["images"] + 1}

    class Named(Alone):
        def __getitem__(self, index):
            return {"images": super().__getitem__(index)}

    source = LoaderSource(DataLoader(Named(), batch_size=4), "train", hooks=hook)
    (batch, _) = source.loader(range(7), augment=False, view=0)
    assert seen == [dict, dict]
    with pytest.raises(LongTailError, match=r"gives batches as dict, expected \(images, labels\) or images alone"):
        source.prepare(batch, CPU, augment=False)


def test_an_error_in_a_loading_process_arrives_as_it_is(tmp_path):
    source = source_of(DataLoader(ImageList(["gone.jpg"] * 3, [0, 0, 1], root=tmp_path), num_workers=1), None)
    with pytest.raises(LongTailError, match=rf"^{tmp_path}/gone\.jpg cannot be read \(No such file or directory\)\.$"):
        list(source.loader(range(3), augment=False, view=0))


def test_names_are_asked_one_by_one():
    files = ImageList([f"{i}.jpg" for i in range(100)], [0] * 100)
    names = source_of(DataLoader(Subset(files, [7, 3, 50])), None).ids()
    assert not isinstance(names, list)
    assert (len(names), names[-1], names[:2], list(names)) == (
        3,
        "50.jpg",
        ["7.jpg", "3.jpg"],
        ["7.jpg", "3.jpg", "50.jpg"],
    )
    with pytest.raises(IndexError):
        names[3]


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_item_has_one_name_everywhere(split):
    class Called(type(tiny_data())):
        def item_name(self, index, split="test"):
            return f"{split}/{index}"

    data = Called(num_classes=3, max_count=4, imbalance_factor=2)
    assert source_of(data, split).ids()[1] == f"{split}/1"
    assert source_of(tiny_data(), split).ids() is None, "numbers alone are no names"
