from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

from longtail_lightning._errors import LongTailError
from longtail_lightning.data import SyntheticImages, labels_of
from longtail_lightning.datasets.loader import SeededDataset
from longtail_lightning.samplers import ClassBalancedSampler

LABELS = [2, 0, 1, 0, 2, 2]


class Undecodable(Dataset):
    """Whoever asks for an image has lost."""

    def __init__(self, labels=LABELS, name="labels"):
        self._size = len(labels)
        setattr(self, name, labels)

    def __len__(self):
        return self._size

    def __getitem__(self, index):
        raise AssertionError("an image was decoded")


@pytest.mark.parametrize("values", [LABELS, tuple(LABELS), np.array(LABELS), torch.tensor(LABELS, dtype=torch.uint8)])
@pytest.mark.parametrize("name", ["labels", "targets", "_labels", "y"])
def test_attributes(values, name):
    labels = labels_of(Undecodable(values, name))
    assert labels.tolist() == LABELS
    assert labels.dtype == torch.int64


def test_pairs_of_file_and_label():
    assert labels_of(Undecodable([(f"{i}.jpg", label) for i, label in enumerate(LABELS)], "samples")).tolist() == LABELS


def _torchvision(cls, size=6, **attributes):
    """One of torchvision's data sets as its constructor leaves it, without the download."""
    dataset = type(cls.__name__, (cls,), {"__len__": lambda _: size, "__getitem__": None})
    instance = object.__new__(dataset)
    instance.__dict__.update({"target_transform": None, **attributes})
    return instance


PAIRS = [(f"{i}.jpg", label) for i, label in enumerate(LABELS)]


@pytest.mark.parametrize(
    ("cls", "attributes"),
    [
        (tv.CIFAR10, {"targets": LABELS}),
        (tv.CIFAR100, {"targets": LABELS}),
        (tv.MNIST, {"targets": torch.tensor(LABELS)}),
        (tv.EMNIST, {"targets": torch.tensor(LABELS)}),
        (tv.USPS, {"targets": LABELS}),
        (tv.SVHN, {"labels": np.array(LABELS)}),
        (tv.STL10, {"labels": np.array(LABELS)}),
        (tv.SEMEION, {"labels": np.array(LABELS)}),
        (tv.Places365, {"targets": LABELS, "imgs": PAIRS}),
        (tv.Flowers102, {"_labels": LABELS}),
        (tv.Food101, {"_labels": LABELS}),
        (tv.FGVCAircraft, {"_labels": LABELS}),
        (tv.DTD, {"_labels": LABELS}),
        (tv.SUN397, {"_labels": LABELS}),
        (tv.OxfordIIITPet, {"_labels": LABELS, "_bin_labels": [0] * 6}),
        (tv.StanfordCars, {"_samples": PAIRS}),
        (tv.GTSRB, {"_samples": PAIRS}),
        (tv.Imagenette, {"_samples": PAIRS}),
        (tv.RenderedSST2, {"_samples": PAIRS}),
        (tv.FER2013, {"_samples": PAIRS}),
        (tv.Omniglot, {"_flat_character_images": PAIRS}),
        (tv.Caltech101, {"index": [1] * 6, "y": LABELS}),
        (tv.Caltech256, {"index": [1] * 6, "y": LABELS}),
        (tv.ImageNet, {"samples": PAIRS, "targets": LABELS}),
        (tv.INaturalist, {"index": [(label, "a.jpg") for label in LABELS], "target_type": ["full"]}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_torchvision(cls, attributes):
    assert labels_of(_torchvision(cls, **attributes)).tolist() == LABELS


def test_image_folder_with_broken_images(tmp_path):
    for i, label in enumerate(LABELS):
        (tmp_path / f"class{label}").mkdir(exist_ok=True)
        (tmp_path / f"class{label}" / f"{i}.jpg").write_bytes(b"no image")
    folder = tv.ImageFolder(str(tmp_path))
    # Public code reads `samples[:][1]`: the second sample, not the labels (torchsampler issue 36's neighbor).
    assert labels_of(folder).tolist() == sorted(LABELS)
    folder.samples = folder.samples[2:]
    assert labels_of(folder).tolist() == sorted(LABELS)[2:]


def test_inaturalist_on_disk(tmp_path):
    for i, name in enumerate(["Animalia_A_A_A_One_a_a", "Animalia_A_A_A_Two_b_b", "Animalia_A_A_A_Two_c_c"]):
        folder = tmp_path / "2021_valid" / f"{i:05d}_{name}"
        folder.mkdir(parents=True)
        for image in range(i + 1):
            (folder / f"{image}.jpg").write_bytes(b"no image")
    assert labels_of(tv.INaturalist(str(tmp_path), version="2021_valid")).tolist() == [0, 1, 1, 2, 2, 2]
    by_family = tv.INaturalist(str(tmp_path), version="2021_valid", target_type="family")
    assert labels_of(by_family).tolist() == [0, 1, 1, 1, 1, 1]
    two = tv.INaturalist(str(tmp_path), version="2021_valid", target_type=["family", "full"])
    with pytest.raises(LongTailError, match="choose one level"):
        labels_of(two)


def test_labels_are_those_the_data_set_gives(tmp_path):
    for label in (0, 1, 2):
        (tmp_path / str(label)).mkdir()
        for i in range(label + 1):
            Image.new("RGB", (2, 2)).save(tmp_path / str(label) / f"{i}.png")
    folder = tv.ImageFolder(str(tmp_path), target_transform=lambda label: 2 - label)
    assert labels_of(folder).tolist() == [label for _, label in folder]


def test_subset_keeps_its_indices_in_their_order():
    # ufoym/imbalanced-dataset-sampler issue 36: the labels of the whole data set were used.
    dataset = Undecodable()
    assert labels_of(Subset(dataset, [5, 1, 2])).tolist() == [2, 0, 1]
    assert labels_of(Subset(Subset(dataset, [5, 1, 2]), torch.tensor([2, 0]))).tolist() == [1, 2]
    subset = Subset(dataset, [1, 3, 3, 2])
    assert set(ClassBalancedSampler(labels_of(subset), num_samples=100)) == {0, 1, 2, 3}


def test_random_split():
    dataset = Undecodable()
    for part in random_split(dataset, [0.5, 0.5]):
        assert labels_of(part).tolist() == [LABELS[i] for i in part.indices]


def test_concatenation_and_wrappers():
    dataset = Undecodable()
    both = ConcatDataset([Subset(dataset, [0, 1]), Undecodable([1, 1], "targets")])
    assert labels_of(both).tolist() == [2, 0, 1, 1]
    assert labels_of(SeededDataset(both, seed=0)).tolist() == [2, 0, 1, 1]
    assert labels_of(TensorDataset(torch.zeros(6, 1), torch.tensor(LABELS))).tolist() == LABELS
    assert labels_of(SyntheticImages([2, 1])).tolist() == [0, 0, 1]


class HuggingFace(Undecodable):
    """What the `datasets` library offers: columns by name, a lazy sequence, a transform that decodes."""

    def __init__(self, column, transform=None):
        super().__init__()
        del self.labels
        self.column_names = ["image", column]
        self.transform = transform

    def with_format(self, kind):
        assert kind is None
        return HuggingFace(self.column_names[1])

    def __getitem__(self, key):
        assert key in ("label", "labels"), "an image was decoded"
        assert self.transform is None, "the transform ran"
        return iter(LABELS)


@pytest.mark.parametrize("column", ["label", "labels"])
def test_columns_of_the_datasets_library(column):
    assert labels_of(HuggingFace(column, transform="decode")).tolist() == LABELS


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Undecodable(name="classes"), "Cannot find the labels of Undecodable"),
        (Undecodable(["cat", "dog"]), "Undecodable: labels must be whole numbers"),
        (Undecodable([0, -1]), r"Undecodable: labels\[1\] is -1"),
        (Undecodable([None, None]), "Undecodable: labels must be whole numbers"),
        (_torchvision(tv.CIFAR10, size=7, targets=LABELS), "CIFAR10 has 7 items but 6 labels"),
    ],
)
def test_errors_say_what_to_do(dataset, message):
    with pytest.raises(LongTailError, match=message):
        labels_of(dataset)
