from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail_lightning import ArrayLT, ClassCounts, ConcatLT, ImageTransforms, SyntheticLongTail, labels_of
from longtail_lightning._errors import LongTailError
from tests.data.test_datamodule import Mine
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def part(counts, names=None, *, first=0, size=8, **options):
    """Images whose pixels count up from `first`, class by class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, size, size), np.uint8)
    return ArrayLT((images, labels), test=(images, labels), class_names=names, **options)


def pairs(data, split="train"):
    return [(int(image[0, 0, 0]), label) for image, label in data.dataset(split)]


def test_shared_classes():
    data = ConcatLT([part([3, 1]), part([1, 2], first=50)])
    assert data.class_counts == ClassCounts([4, 3])
    assert pairs(data) == [(0, 0), (1, 0), (2, 0), (3, 1), (50, 0), (51, 1), (52, 1)]
    assert labels_of(data.dataset("test")).tolist() == [0, 0, 0, 1, 0, 1, 1]
    assert data.dataset("val") is None


def test_disjoint_classes():
    data = ConcatLT([part([3, 1], ["a", "b"]), part([1, 2, 1], ["c", "d", "e"])], classes="offset")
    assert data.class_names == ["a", "b", "c", "d", "e"]
    assert data.class_counts.tolist() == [3, 1, 1, 2, 1]
    assert data.labels("train").tolist() == [0, 0, 0, 1, 2, 3, 3, 4]


def test_classes_of_one_name_are_one():
    data = ConcatLT([part([3, 1], ["cat", "dog"]), part([1, 2], ["dog", "cow"])], classes="merged")
    assert data.class_names == ["cat", "dog", "cow"]
    assert data.class_counts.tolist() == [3, 2, 2]
    assert data.labels("train").tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_names_that_differ_are_mapped():
    parts = [part([3, 1], ["car", "dog"]), part([1, 2], ["dog", "automobile"])]
    data = ConcatLT(parts, classes={"automobile": "car"})
    assert data.class_names == ["car", "dog"]
    assert data.class_counts.tolist() == [5, 2]
    with pytest.raises(LongTailError, match=r"No part has a class 'automobil'. Did you mean automobile\?"):
        _ = ConcatLT(parts, classes={"automobil": "car"}).class_counts


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (["dog", "cat"], "Part 1 has the classes of the first part in another order: use classes='merged'"),
        (["cat", "cow"], r"2 classes and the first part 2, and they differ \(dog\): use classes='merged'"),
        (["cat", "dog", "cow"], r"Part 1 has 3 classes and the first part 2, and they differ \(cow\)"),
    ],
)
def test_classes_that_are_not_shared_are_refused(second, message):
    with pytest.raises(LongTailError, match=message):
        _ = ConcatLT([part([2, 1], ["cat", "dog"]), part([1] * len(second), second)]).class_counts


def test_items_know_where_they_come_from():
    data = ConcatLT([part([3, 1]), part([1, 2])], names=["real", "found"])
    assert [data.dataset("train").locate(i) for i in (0, 3, 4, 6)] == [(0, 0), (0, 3), (1, 0), (1, 2)]
    assert [data.item_name(i) for i in (3, 4)] == ["real/3", "found/0"]


def test_each_part_keeps_its_own_tail_and_held_out_images():
    first = part([20, 20], imbalance_factor=10)
    second = part([20, 4], first=100, val_split=0.25)
    data = ConcatLT([first, second])
    assert data.class_counts.tolist() == [20 + 15, 2 + 3]
    assert len(data.dataset("val")) == 6, "only the second part has a validation split"
    assert all(image >= 100 for image, _ in pairs(data, "val"))
    assert data.dataset("val").file(0).startswith("1/")


def test_the_joined_set_can_be_cut_and_split():
    data = ConcatLT([part([20, 20]), part([20, 20])], imbalance_factor=10, val_split=0.5)
    assert data.class_counts.tolist() == [20, 2]
    assert len(data.dataset("val")) == 22


def test_the_subset_names_those_of_the_parts():
    plain = ConcatLT([part([4, 4]), part([4, 4])])
    assert plain.subset_id is None
    own = ConcatLT([part([4, 4]), part([4, 4])], imbalance_factor=2)
    assert own.subset_id.name == "ConcatLT-exp-2"
    ids = [ConcatLT([part([4, 4], profile=[2, n], name="a"), part([4, 4])]).subset_id for n in (1, 2)]
    assert [str(i).partition(",")[0] for i in ids] == ["a-counts"] * 2
    assert ids[0].images == 3 + 8
    assert ids[0].checksum != ids[1].checksum
    both = ConcatLT([part([4, 4], profile=[2, 2], name="a"), part([4, 4])], imbalance_factor=2)
    assert both.subset_id.name == "a-counts + ConcatLT-exp-2"


def test_a_run_on_other_subsets_is_refused():
    state = ConcatLT([part([4, 4], profile=[2, 1]), part([4, 4])]).state_dict() | {"subset": "another"}
    with pytest.raises(LongTailError, match="The checkpoint was trained on the subset another, this run has ArrayLT"):
        ConcatLT([part([4, 4], profile=[2, 1]), part([4, 4])]).load_state_dict(state)


def test_a_run_with_other_held_out_images_is_refused():
    def state(**options):
        data = ConcatLT([part([4, 4]), part([4, 4], **options)])
        return {"batches": 0, "epoch": 0, "held_out": data.held_out}, data

    saved, _ = state(val_split=0.5)
    state(val_split=0.5)[1].load_state_dict(saved)
    with pytest.raises(LongTailError, match=r"was trained with part 1: val_split=0\.5, seed=0, this run has none"):
        state()[1].load_state_dict(saved)


def test_whole_batches_equal_single_items():
    dataset = ConcatLT([part([3, 1]), part([1, 2], first=50, profile=[1, 1])]).dataset("train")
    indices = [5, 0, 4, 3, 0]
    images, labels = dataset.batch(indices)
    for position, index in enumerate(indices):
        image, label = dataset[index]
        assert torch.equal(images[position], image)
        assert labels[position] == label


def test_parts_that_come_image_by_image():
    mine = Mine(train=torch.tensor([0, 1]), test=None)
    data = ConcatLT([mine, Mine(train=torch.tensor([1, 0]), test=None)], batch_size=3)
    assert data.dataset("train").batch([0, 3]) is None
    assert sorted(torch.cat([labels for _, labels, _ in data.train_dataloader()]).tolist()) == [0, 0, 1, 1]
    assert data.dataset("test") is None


def test_images_of_several_sizes_need_transforms():
    sizes = [part([3, 1]), part([1, 2], size=6)]

    class Cropped(ImageTransforms):
        def __init__(self):
            super().__init__()
            self.train = lambda image: image[:, :6, :6]

    data = ConcatLT(sizes, transforms=Cropped())
    images, *_ = next(iter(data.train_dataloader()))
    assert images.shape == (7, 3, 6, 6)


def test_the_first_part_says_how_images_are_augmented():
    data = ConcatLT([tiny_data(augment=False), tiny_data(seed=1)])
    images = torch.rand(4, 3, 8, 8)
    assert data.augment_batch(images, np.arange(4)) is images
    assert data.mean == SyntheticLongTail.mean
    other = ConcatLT([tiny_data(), tiny_data()], transforms="cifar10")
    assert other.mean == (0.4914, 0.4822, 0.4465)


def test_trains_tests_and_predicts():
    data = ConcatLT([tiny_data(), tiny_data(seed=1)], batch_size=8)
    model, trainer = tiny_model(data), tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert torch.cat([some["index"] for some in trainer.predict(model, data)]).tolist() == list(range(36))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": []}, "ConcatLT got no parts"),
        ({"names": ["a"]}, r"names=\['a'\] must be 2 different names"),
        ({"names": ["a", "a"]}, "2 different names"),
        ({"classes": "by_name"}, "choose 'shared', 'offset' or 'merged'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(LongTailError, match=message):
        _ = ConcatLT(**{"parts": [part([1, 1]), part([1, 1])], **options}).class_counts
