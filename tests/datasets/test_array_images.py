from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from longtail_lightning import ArrayImages, SyntheticImages, labels_of
from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.array_images import ResidentImages


def numbered(count=6):
    """Images whose pixels tell their index, with labels 0 and 1 in turn."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    return ArrayImages(images, torch.arange(count) % 2)


def test_items_and_batches_agree():
    dataset = numbered()
    images, labels = dataset.batch([5, 0, 5])
    for position, index in enumerate([5, 0, 5]):
        image, label = dataset[index]
        assert torch.equal(image, images[position])
        assert (label, type(label)) == (int(labels[position]), int)
    assert labels_of(dataset).tolist() == [0, 1, 0, 1, 0, 1]


def test_a_batch_is_a_copy():
    dataset = numbered()
    dataset.batch([1])[0].fill_(99)
    assert int(dataset[1][0].max()) == 1


def test_survives_the_way_to_a_loading_process():
    again = pickle.loads(pickle.dumps(numbered()))
    assert again.batch([3])[0][0, 0, 0, 0] == 3


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), [0, 1], "takes uint8 images .* got torch.float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), [0, 1], r"of shape \(2, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), [0], "2 images but 1 labels"),
    ],
)
def test_wrong_arrays_are_named(images, labels, message):
    with pytest.raises(LongTailError, match=message):
        ArrayImages(images, labels)


def test_subsets_on_a_device_share_their_images():
    dataset, on_device = numbered(), ResidentImages()
    outer = Subset(Subset(dataset, [4, 2, 0]), [2, 1])
    cpu, meta = torch.device("cpu"), torch.device("meta")
    there = on_device(outer, cpu)
    assert there.dataset is dataset, "what is there already is not copied"
    assert there.indices == [0, 2]
    assert on_device(dataset, meta).images.device == meta
    assert on_device(outer, meta).dataset is on_device(dataset, meta)
    assert len(on_device._moved) == 1, "the copy on the device before is given up"


def test_drawn_images_are_drawn_once_and_for_all():
    drawn = SyntheticImages([3, 2])
    whole = drawn.to("cpu")
    assert torch.equal(whole.images[4], SyntheticImages([3, 2])[4][0])
    assert whole.labels.tolist() == [0, 0, 0, 1, 1]


def test_what_has_no_images_in_memory_is_named():
    with pytest.raises(LongTailError, match="TensorDataset has none to move"):
        ResidentImages()(TensorDataset(torch.zeros(2, 3)), "cpu")
