from __future__ import annotations

import shutil
from pathlib import Path

import lightning as L
import pytest
import torch

from longtail_lightning import BaseClassifier, CIFARResNet, ImageFolderLT, ResizedCropTransforms
from longtail_lightning._errors import LongTailError
from tests.data import trees
from tests.modules.test_resume import Stop
from tests.tiny import tiny_trainer


def data(root="photos", **options):
    return ImageFolderLT(root, **{"transforms": "none", "batch_size": 4, **options})


def test_train_val_and_test_folders():
    trees.folders(Path("photos"))
    dm = data()
    assert dm.class_counts.tolist() == [6, 3, 2]
    assert dm.class_names == ["cat", "dog", "owl"]
    assert dm.labels("val").tolist() == [0, 1, 2]
    assert dm.labels("test").tolist() == [0, 0, 1, 1, 2, 2]
    assert dm.item_name(2) == "test/dog/0.jpg"
    assert next(iter(dm.train_dataloader()))[0].shape == (4, 3, 16, 20)


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_other_names_of_the_validation_folder(name):
    trees.folders(Path("photos"))
    Path("photos/val").rename(Path("photos") / name)
    assert data().labels("val").tolist() == [0, 1, 2]


def test_names_given_for_the_folders():
    trees.folders(Path("photos"))
    for old, new in (("train", "a"), ("val", "b"), ("test", "c")):
        Path("photos", old).rename(Path("photos", new))
    dm = data(train="a", val="b", test="c")
    assert [len(dm.labels(split)) for split in ("train", "val", "test")] == [11, 3, 6]
    with pytest.raises(LongTailError, match="no folder 'd' that holds class folders"):
        _ = data(train="d").class_counts


def test_without_a_validation_folder_images_are_held_out():
    trees.folders(Path("photos"))
    shutil.rmtree("photos/val")
    dm = data(val_split=0.3)
    assert dm.class_counts.tolist() == [4, 2, 1]
    assert dm.labels("val").tolist() == [0, 0, 1, 2]
    trees.folders(Path("photos"))
    assert data(val=None, val_split=0.3).labels("val").tolist() == [0, 0, 1, 2]


def test_class_folders_alone_are_split_three_ways():
    trees.flat(Path("photos"))
    dm = data(batch_size=64)
    assert dm.class_counts.tolist() == [16, 8, 1]
    assert dm.labels("val").tolist() == [0, 0, 1]
    assert dm.labels("test").tolist() == [0, 0, 1, 2]
    parts = [name for split in ("train", "val", "test") for name in files(dm, split)]
    assert len(parts) == len(set(parts)) == 32


def files(dm, split):
    dataset, indices = dm.dataset(split), range(len(dm.dataset(split)))
    while hasattr(dataset, "dataset"):
        indices = [dataset.indices[i] for i in indices]
        dataset = dataset.dataset
    return [dataset.file(i) for i in indices]


def test_the_test_images_do_not_depend_on_the_seed():
    trees.flat(Path("photos"))
    assert files(data(), "test") == files(data(seed=3), "test")
    assert files(data(), "val") != files(data(seed=3), "val")


def test_no_test_split():
    trees.flat(Path("photos"))
    dm = data(test_split=0)
    assert dm.class_counts.tolist() == [18, 9, 1]
    assert dm.dataset("test") is None
    with pytest.raises(LongTailError, match="ImageFolderLT has no test split: add a folder for it, or"):
        dm.predict_dataloader()
    with pytest.raises(LongTailError, match="test_split=1 must lie between 0 and 1"):
        data(test_split=1)


def test_what_is_held_out_is_told(caplog):
    trees.flat(Path("photos"))
    with (
        caplog.at_level("INFO"),
        pytest.warns(UserWarning, match=r"keep it for training, so validation lacks them: owl \(1 in all\)"),
    ):
        data().setup("fit")
    assert "photos: 25 images to train on; held out, class by class, are 3 to validate and 4 to test" in caplog.text


def test_a_class_called_train_is_no_split():
    trees.flat(Path("vehicles"), car=10, train=10)
    assert data("vehicles").class_names == ["car", "train"]


def test_splits_without_class_folders():
    for name in ("train", "test"):
        trees.image(Path("photos") / name / "1.jpg")
    with pytest.raises(LongTailError, match="test, train in photos hold no class folders"):
        _ = data().class_counts


def test_a_class_that_the_test_set_lacks_is_told():
    trees.folders(Path("photos"))
    shutil.rmtree("photos/test/owl")
    with pytest.warns(UserWarning, match=r"no image of 1 of 3 classes \(owl\)"):
        data().test_dataloader()


def test_a_class_that_training_lacks_is_refused_before_training():
    trees.folders(Path("photos"))
    trees.image(Path("photos/test/Owl/1.jpg"))
    with pytest.raises(LongTailError, match=r"photos/test has 1 class that photos/train lacks \(Owl\)"):
        data().setup("fit")


def test_an_empty_class_folder_is_a_class_without_images():
    trees.folders(Path("photos"))
    Path("photos/train/elk").mkdir()
    trees.image(Path("photos/test/elk/1.jpg"))
    dm = data()
    with pytest.warns(UserWarning, match=r"1 of 4 classes have no image in photos/train \(elk\)"):
        assert dm.class_counts.tolist() == [6, 3, 0, 2]
    assert dm.labels("test").tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_hidden_files_are_left_out_and_others_counted():
    trees.folders(Path("photos"))
    for name in (".DS_Store", "._0.jpg", "Thumbs.db"):
        Path("photos/train/cat", name).touch()
    Path("photos/train/.git").mkdir()
    assert data().class_counts.tolist() == [6, 3, 2]
    for name in ("notes.txt", "more.TXT", "README"):
        Path("photos/train/cat", name).touch()
    with pytest.warns(UserWarning, match=r"that are not images are left out: 2 \.txt, 1 without suffix"):
        assert data().class_counts.tolist() == [6, 3, 2]
    trees.image(Path("photos/train/loose.jpg"))
    for name in ("notes.txt", "more.TXT", "README"):
        Path("photos/train/cat", name).unlink()
    with pytest.warns(UserWarning, match=r"Images in photos/train itself, .* \(1 in all\)"):
        assert data().class_counts.tolist() == [6, 3, 2]


def test_upper_case_suffixes_and_deeper_folders():
    trees.folders(Path("photos"))
    Path("photos/train/cat/0.jpg").rename("photos/train/cat/0.JPEG")
    trees.image(Path("photos/train/cat/2019/june/a.jpg"))
    assert data().class_counts.tolist() == [7, 3, 2]


def test_links():
    trees.folders(Path("elsewhere"))
    Path("photos/train").mkdir(parents=True)
    for name in trees.CLASSES:
        Path("photos/train", name).symlink_to(Path("elsewhere/train", name).absolute())
    Path("elsewhere/train/cat/again").symlink_to(Path("elsewhere/train/cat").absolute())
    Path("elsewhere/train/dog/link.jpg").symlink_to(Path("elsewhere/train/dog/0.jpg").absolute())
    Path("elsewhere/train/dog/lost.jpg").symlink_to(Path("elsewhere/nothing.jpg").absolute())
    with pytest.warns(UserWarning, match="1 broken links"):
        assert data(val_split=0).class_counts.tolist() == [6, 4, 2]


def test_unicode_and_spaces():
    root = trees.flat(Path("Meine Bilder ü"), **{"große Katze": 10, "鳥": 10})
    dm = data(root)
    assert dm.class_names == ["große Katze", "鳥"]
    assert next(iter(dm.test_dataloader()))[1].tolist() == [0, 1]


def test_a_read_only_folder():
    root = trees.flat(Path("photos"))
    paths = [root, *root.rglob("*")]
    before = sorted(paths)
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        dm = data()
        with pytest.warns(UserWarning, match="single image"):
            dm.setup("fit")
        assert len(list(dm.train_dataloader())) == 7
    finally:
        for path in paths:
            path.chmod(0o755)
    assert sorted([root, *root.rglob("*")]) == before


def test_names_for_the_folders():
    trees.folders(Path("photos"))
    assert data(class_names=["a cat", "a dog", "an owl"]).class_names == ["a cat", "a dog", "an owl"]
    dm = data(class_names=["owl", "dog", "cat"])
    assert dm.class_counts.tolist() == [2, 3, 6], "names that are the folders set the order"
    assert data(class_names=["house cat", "dog", "barn owl"]).class_counts.tolist() == [6, 3, 2], "one is the same"
    with pytest.raises(LongTailError, match=r"class_names hold labels of .* but lack owl\. Did you mean Owl"):
        _ = data(class_names=["Owl", "cat", "dog"]).class_counts
    with pytest.raises(LongTailError, match="2 class names for 3 classes of photos/train"):
        _ = data(class_names=["a", "b"]).class_counts
    with pytest.raises(LongTailError, match="class_names hold 'cat' twice"):
        _ = data(class_names=["cat", "dog", "owl", "cat"]).class_counts


def test_the_same_folder_for_two_splits():
    with pytest.raises(LongTailError, match="val and test are both 'val': choosing an epoch on the images you report"):
        data(test="val")


LEVELS = {
    "one folder too high": ("above", r"above holds a single class folder \(photos\): .* pass above/photos"),
    "the folder of one class": ("above/photos/train/cat", "holds images but no class folders: .*photos/train"),
    "an empty folder": ("empty", "empty holds no class folders"),
    "no image in any folder": ("texts", r"class folders of texts \(a, b\) hold no image"),
    "archives in it": ("packed", r"packed holds train\.zip and no folders: unzip -q packed/train\.zip"),
    "an archive": ("photos.zip", r"photos\.zip is an archive: unpack it with `unzip -q photos\.zip -d photos`"),
    "a tar file": ("photos.tar.gz", r"photos\.tar\.gz is an archive: .*tar -xf photos\.tar\.gz"),
    "a file": ("file", "file is a file"),
    "nothing": ("a/b/c", r"a/b/c does not exist \(.* does\)\. Expected a folder such as\nroot/"),
    "no training folder": ("half", "half holds test but no training folder 'train'.*: data"),
}


@pytest.mark.parametrize("name", LEVELS)
def test_wrong_roots(name):
    trees.folders(Path("above/photos"))
    Path("empty").mkdir()
    for folder in ("texts/a", "texts/b"):
        Path(folder).mkdir(parents=True)
    Path("packed").mkdir()
    for file in ("packed/train.zip", "photos.zip", "photos.tar.gz", "file"):
        Path(file).touch()
    trees.folders(Path("half"))
    Path("half/train").rename("half/data")
    shutil.rmtree("half/val")
    root, message = LEVELS[name]
    with pytest.raises(LongTailError, match=message):
        _ = data(root).class_counts


def test_one_level_too_low_is_told():
    trees.folders(Path("photos"))
    with pytest.warns(UserWarning, match="photos/train is taken as the whole data set; pass .*photos as root to use"):
        _ = data("photos/train").class_counts


def test_groups_of_classes_are_told():
    for name in ("birds/owl", "birds/crow", "mammals/cat"):
        trees.image(Path("photos") / name / "1.jpg")
    with pytest.warns(UserWarning, match=r"No class folder of photos \(birds, mammals\) holds images itself"):
        _ = data(test_split=0, val_split=0).class_counts


def test_images_are_those_of_the_files():
    trees.folders(Path("photos"))
    dm = data(val=None, val_split=0)
    for index in range(6):
        image, label = dm.dataset("train")[index]
        assert label == 0
        assert abs(int(image.float().mean()) - 40 * index) <= 1
        assert image.dtype == torch.uint8


def trained(stop=None, resume=False):
    L.seed_everything(3, verbose=False)
    dm = data(transforms=ResizedCropTransforms(image_size=16), val_split=0.2, test_split=0.2)
    model = BaseClassifier(dm.class_counts, backbone=CIFARResNet(8, width=4))
    trainer = tiny_trainer(callbacks=[Stop(stop)] if stop else [])
    if stop:
        with pytest.raises(SystemExit):
            trainer.fit(model, dm)
    else:
        trainer.fit(model, dm, ckpt_path="stopped.ckpt" if resume else None, weights_only=True)
    return model.state_dict()


def test_a_resumed_run_reads_and_augments_what_it_would_have():
    trees.flat(Path("photos"), cat=9, dog=5)
    whole = trained()
    trained(stop=2)  # of 3 batches
    resumed = trained(resume=True)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
