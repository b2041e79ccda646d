from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from longtail_lightning import ImageTransforms, PaddedCropTransforms, ResizedCropTransforms
from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.augment import item_keys
from longtail_lightning.datasets.batch_pipeline import first_items
from longtail_lightning.datasets.image_steps import TimmRandAugment
from longtail_lightning.datasets.presets import PRESETS, as_transforms
from longtail_lightning.datasets.seeded_dataset import SeededDataset


@pytest.fixture(scope="module")
def photo():
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC))


def tensor(image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_have_the_pixels_of_pillow(photo, interpolation):
    transforms = ResizedCropTransforms(image_size=48, resize=56, interpolation=interpolation)
    image = Image.fromarray(photo)
    for seed in range(5):
        torch.manual_seed(seed)
        ours = transforms.train(tensor(photo))
        torch.manual_seed(seed)
        theirs = v2.RandomResizedCrop(48, interpolation=v2.InterpolationMode(interpolation))(image)
        theirs = v2.RandomHorizontalFlip()(theirs)
        assert (ours.int() - tensor(theirs).int()).abs().max() <= 1
    shown = v2.CenterCrop(48)(v2.Resize(56, interpolation=v2.InterpolationMode(interpolation))(image))
    assert (transforms.evaluate(tensor(photo)).int() - tensor(shown).int()).abs().max() <= 1


@pytest.mark.parametrize("crops", [5, 10])
def test_several_crops_hold_center_corners_and_mirrors(photo, crops):
    one = ResizedCropTransforms(image_size=48).evaluate(tensor(photo))
    views = ResizedCropTransforms(image_size=48, crops=crops).evaluate(tensor(photo))
    assert views.shape == (crops, 3, 48, 48)
    assert torch.equal(views[4], one)
    if crops == 10:
        mirrored = ResizedCropTransforms(image_size=48).evaluate(tensor(photo).flip(-1))
        assert (views[9].int() - mirrored.int()).abs().max() <= 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_bytes_until_the_batch(name, photo):
    transforms = as_transforms(name)
    image = tensor(photo)[:, :32, :32] if name.startswith("cifar") else tensor(photo)
    for transform in (transforms.train, transforms.evaluate):
        if transform is not None:
            assert transform(image).dtype == torch.uint8
    side = 32 if name.startswith("cifar") else 48
    batch = transforms.augment(torch.zeros(2, 3, side, side, dtype=torch.uint8), np.arange(2))
    assert batch.dtype == torch.uint8


def test_only_the_augmented_teacher_of_distillation_sees_noise():
    gray = torch.full((64, 3, 16, 16), 128, dtype=torch.uint8)
    torch.manual_seed(0)
    noisy = as_transforms("cbd_augmented").augment(gray, np.arange(len(gray))).float() / 255
    assert noisy.std() == pytest.approx(0.01, rel=0.1)
    assert torch.equal(as_transforms("cbd_standard").augment(gray, np.arange(len(gray))), gray)
    assert as_transforms("cbd_standard").mean is None


def test_cutout_and_autoaugment_for_small_images():
    transforms = PaddedCropTransforms(padding=0, flip=False, auto_augment="auto_cifar", cutout_size=8)
    assert transforms.train(torch.zeros(3, 32, 32, dtype=torch.uint8)).shape == (3, 32, 32)
    blank = (transforms.augment(torch.ones(200, 1, 32, 32), item_keys(first_items(200))) == 0).sum((1, 2, 3))
    assert blank.max() == 64  # whole squares
    assert blank.min() >= 16  # the middle lies inside the image


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_transforms("imagnet"), "Did you mean imagenet"),
        (lambda: ImageTransforms(mean=[0.5]), "go together"),
        (lambda: ImageTransforms(mean=[0.5], std=[0.0]), "must be positive"),
        (lambda: ResizedCropTransforms(image_size=224, resize=200), "resize must not be smaller"),
        (lambda: ResizedCropTransforms(crops=3), "crops=3: choose 1, 5 or 10"),
        (lambda: ResizedCropTransforms(interpolation="nearest"), "choose 'bilinear' or 'bicubic'"),
        (lambda: ResizedCropTransforms(scale=(1.0, 0.5)), "the smaller first"),
        (lambda: ResizedCropTransforms(ratio=(1.0, 0.5)), "two aspect ratios, the smaller first"),
        (lambda: ResizedCropTransforms(ratio=(0.0, 1.0)), "two aspect ratios"),
        (lambda: PaddedCropTransforms(auto_augment="best"), "auto_augment='best'"),
        (lambda: PaddedCropTransforms(auto_augment="rand-x9"), "and its like"),
        (lambda: PaddedCropTransforms(auto_augment="rand-m9-std0.5"), "and its like"),  # timm passes over these
        (lambda: PaddedCropTransforms(auto_augment="rand-mm"), "and its like"),
        (lambda: PaddedCropTransforms(auto_augment="rand-"), "and its like"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(LongTailError, match=message):
        make()


def test_timm_s_rand_augment_depends_on_the_item_alone(photo):
    transforms = ResizedCropTransforms(image_size=64, auto_augment="rand-m9-n3-mstd0.5")
    dataset = [(tensor(photo), 0)] * 3

    def views(indices, view):
        return SeededDataset(dataset, seed=1, view=view, transform=transforms.train).__getitems__(indices)

    together, (alone,) = views([0, 1, 2], 0), views([1], 0)
    assert torch.equal(together[1][0], alone[0])
    assert together[1][0].dtype == torch.uint8
    assert not torch.equal(together[0][0], together[1][0])
    assert not torch.equal(views([1], 1)[0][0], alone[0])


@pytest.mark.parametrize("words", ["rand-m1-n3-mstd0.5", "rand-m10-n3-inc1"])
def test_timm_s_rand_augment_posterizes_to_one_bit_at_least(photo, words):
    step = TimmRandAugment(words)
    (posterize,) = [one for one in step.apply.ops if one.name.startswith("Posterize")]
    posterize.prob = 1.0
    step.apply.ops = [posterize]
    image = pickle.loads(pickle.dumps(step))(tensor(photo))  # as a loading process gets it
    assert image.unique().tolist() == [0, 128]


def test_timm_s_rand_augment_keeps_gray_gray(photo):
    transform = ResizedCropTransforms(image_size=64, auto_augment="rand-m9-n3-mstd0.5").train
    gray = tensor(photo)[:1]
    for seed in range(30):  # some operations fill in a color
        views = []
        for image in (gray, gray.expand(3, -1, -1)):
            views.append(SeededDataset([(image, 0)], seed=seed, view=0, transform=transform)[0][0])
        assert views[0].shape == (1, 64, 64)
        assert torch.equal(views[0].expand(3, -1, -1), views[1])
    with pytest.raises(LongTailError, match="1 or 3 channels, not of 4"):
        transform(torch.zeros(4, 80, 80, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(90, 120), (120, 90), (90, 90)])
def test_without_random_parts_training_sees_the_middle_of_evaluation(shape):
    """The color of a pixel tells its row and column."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij")
    picture = torch.stack([rows, columns, rows]).to(torch.uint8)
    options = {"image_size": 90, "resize": 100, "scale": None, "flip": False}
    same = ResizedCropTransforms(**options, ratio=(1.0, 1.0))
    assert (same.train(picture).int() - same.evaluate(picture).int()).abs().max() <= 1
    wide, high, ratios = 0, 0, []
    for seed in range(200):
        torch.manual_seed(seed)
        seen = ResizedCropTransforms(**options, ratio=(0.5, 2.0)).train(picture).float()
        assert seen.shape == (3, 90, 90)
        height, width = (seen[channel].max() - seen[channel].min() + 1 for channel in (0, 1))
        assert max(height, width) == pytest.approx(81, abs=1.5)  # 0.9 of the shorter side
        assert seen[0].mean() == pytest.approx((shape[0] - 1) / 2, abs=1)
        assert seen[1].mean() == pytest.approx((shape[1] - 1) / 2, abs=1)
        ratios.append(float(width / height))
        wide, high = wide + (width > height).item(), high + (height > width).item()
    assert min(ratios) == pytest.approx(0.5, abs=0.05)
    assert max(ratios) == pytest.approx(2.0, abs=0.2)
    assert 60 < wide < 140
    assert 60 < high < 140


def test_the_view_of_an_item_has_one_aspect_ratio(photo):
    dataset = [(tensor(photo), 0)] * 2
    transform = as_transforms("rac").train
    first, again, other = (
        SeededDataset(dataset, seed=3, view=view, transform=transform)[index][0]
        for index, view in ((0, 0), (0, 0), (0, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
