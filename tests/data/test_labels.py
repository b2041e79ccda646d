from __future__ import annotations

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from longtail_lightning import labels_of
from longtail_lightning._errors import LongTailError


class NoDecoding(Dataset):
    """Fails when an image is asked for."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("an image was decoded")


@pytest.mark.parametrize(
    "attributes",
    [
        {"labels": [2, 0, 1]},
        {"targets": torch.tensor([2, 0, 1])},
        {"_labels": [2, 0, 1]},
        {"samples": [("a", 2), ("b", 0), ("c", 1)]},
    ],
)
def test_finds_labels_without_decoding(attributes):
    dataset = NoDecoding(**attributes)
    assert labels_of(dataset).tolist() == [2, 0, 1]
    assert labels_of(Subset(dataset, [2, 2, 0])).tolist() == [1, 1, 2]
    assert labels_of(Subset(Subset(dataset, [2, 0]), [1])).tolist() == [2]
    assert labels_of(ConcatDataset([dataset, Subset(dataset, [1])])).tolist() == [2, 0, 1, 0]


def test_tensor_dataset():
    assert labels_of(TensorDataset(torch.zeros(2, 3), torch.tensor([1, 0]))).tolist() == [1, 0]


def test_what_cannot_be_found_is_asked_for():
    with pytest.raises(LongTailError, match="give it a `labels` attribute"):
        labels_of(NoDecoding())
