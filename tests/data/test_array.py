from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from longtail_lightning import ArrayLT, CIFARResNet
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_model, tiny_trainer

RANDOM = np.random.RandomState(0)


def arrays(counts, size=8):
    """Images whose first pixel tells the class, shuffled."""
    labels = RANDOM.permutation(np.repeat(np.arange(len(counts)), counts))
    images = RANDOM.randint(0, 256, (len(labels), size, size, 3)).astype(np.uint8)
    images[:, 0, 0] = labels[:, None]
    return images, labels


def medmnist(path: Path, **names) -> Path:
    """A file in the form of MedMNIST: grayscale images, labels (N, 1), three splits."""
    content = {}
    for split, counts in (("train", [20, 10, 5]), ("val", [2, 2, 2]), ("test", [3, 3, 3])):
        images, labels = arrays(counts)
        content |= {f"{split}_images": images[..., 0], f"{split}_labels": labels[:, None].astype(np.uint8)}
    np.savez(path, **content, **names)
    return path


def test_one_file_with_all_splits():
    data = ArrayLT(str(medmnist(Path("tiny.npz"))))
    assert data.class_counts.tolist() == [20, 10, 5]
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [35, 6, 9]
    images, labels, _ = next(iter(data.test_dataloader()))
    assert images.shape == (9, 3, 8, 8)
    assert images[:, 0, 0, 0].tolist() == labels.tolist()
    assert data.class_names == ["0", "1", "2"]


def test_splits_of_their_own():
    data = ArrayLT(arrays([6, 3]), test={"x": arrays([2, 2])[0], "y": [0, 0, 1, 1]})
    assert data.dataset("val") is None
    assert data.labels("test").tolist() == [0, 0, 1, 1]
    assert data.class_counts.tolist() == [6, 3]


def test_the_file_names_its_classes():
    data = ArrayLT(medmnist(Path("tiny.npz"), classes=np.array(["a", "b", "c", "d"])))
    assert data.class_names == ["a", "b", "c", "d"]
    assert data.class_counts.tolist() == [20, 10, 5, 0], "a class without images is legal"
    assert ArrayLT("tiny.npz", class_names=["x", "y", "z"]).class_names == ["x", "y", "z"]


def test_labels_without_a_name_are_refused():
    with pytest.raises(LongTailError, match="train labels go up to 2 but class_names has 2 classes"):
        _ = ArrayLT(arrays([3, 2, 1]), class_names=["a", "b"]).class_counts
    with pytest.raises(LongTailError, match="test labels go up to 2 but the training labels know 2 classes"):
        ArrayLT(arrays([3, 2]), test=arrays([1, 1, 1])).test_dataloader()


def test_made_long_tailed():
    data = ArrayLT(medmnist(Path("tiny.npz")), profile=[8, 4, 2], val_split=0.5)
    assert data.class_counts.tolist() == [8, 4, 2], "there is a validation split: nothing is held out"
    assert str(data.subset_id).startswith("tiny-counts, seed 0, 14 images")
    assert str(ArrayLT("tiny.npz", profile=[8, 4, 2], name="mine").subset_id).startswith("mine-counts")


def test_the_first_images_of_data_that_are_no_longer_balanced():
    # Sorted by class and shuffled within, as many packed benchmarks are.
    labels = np.repeat([0, 1, 2], [40, 20, 10])
    images = np.arange(70, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)
    data = ArrayLT((images, labels), imbalance_factor=16, max_count=40, subset_draw="first", name="packed-v1")
    assert data.class_counts.tolist() == [40, 10, 2]
    kept = [int(image[0, 0, 0]) for image, _ in data.dataset("train")]
    assert kept == [*range(40), *range(40, 50), *range(60, 62)]
    assert str(data.subset_id).startswith("packed-v1-exp-16-first, seed 0, 52 images")
    with pytest.raises(LongTailError, match="Class 1 has 20 images but the long tail asks for 31"):
        _ = ArrayLT((images, labels), imbalance_factor=1.6, max_count=40).class_counts


def test_class_counts_need_no_setup_and_keep_empty_classes():
    data = ArrayLT(arrays([30, 30, 30]), imbalance_factor=100)
    assert data.class_counts.tolist() == [30, 3, 0]
    assert data.num_classes == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_trains_tests_and_predicts(workers):
    data = ArrayLT(medmnist(Path("tiny.npz")), transforms="cifar10", batch_size=8, num_workers=workers)
    trainer, model = tiny_trainer(max_epochs=1), tiny_model(data, backbone=CIFARResNet(8, width=4))
    trainer.fit(model, data)
    (results,) = trainer.test(model, data, verbose=False)
    assert 0 <= results["test/acc"] <= 1
    assert torch.cat([some["logits"] for some in trainer.predict(model, data)]).shape == (9, 3)
