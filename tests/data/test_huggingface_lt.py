from __future__ import annotations

import sys
from pathlib import Path

import pytest

from longtail_lightning import HuggingFaceLT
from longtail_lightning._errors import LongTailError
from tests.data import trees


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LongTailError, match=r"pip install 'longtail-lightning\[huggingface\]'"):
        _ = HuggingFaceLT("cifar100").class_counts


def test_the_same_split_twice():
    with pytest.raises(LongTailError, match="val and test are both 'test': choosing an epoch on the images you report"):
        HuggingFaceLT("cifar100", val="test")


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    library.disable_progress_bars()
    return library


def data(path="photos", **options):
    return HuggingFaceLT(str(path), **{"transforms": "none", "batch_size": 4, **options})


def saved(datasets, label=None, **options):
    """The tree as the library saves it, with decoded images inside."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": label or datasets.ClassLabel(names=list(trees.CLASSES))}
    )
    parts = {}
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        rows = trees.images(Path("tree"), name)
        labels = [word if label else list(trees.CLASSES).index(word) for _, word in rows]
        columns = {"image": [str(Path("tree", file).absolute()) for file, _ in rows], "label": labels}
        parts[split] = datasets.Dataset.from_dict(columns, features=features, split=split)
    datasets.DatasetDict(parts).save_to_disk("photos")
    return data(**options)


def test_a_folder_of_save_to_disk(datasets):
    dm = saved(datasets)
    assert dm.class_counts.tolist() == [6, 3, 2]
    assert dm.class_names == ["cat", "dog", "owl"]
    dm.setup("fit")
    assert dm.labels("val").tolist() == [0, 1, 2]
    images, labels, _ = next(iter(dm.test_dataloader()))
    assert labels.tolist() == [0, 0, 1, 1]
    assert [round(float(image.float().mean()), -1) for image in images] == [0, 40, 0, 40]
    assert dm.item_name(1).endswith("1.jpg")


def test_labels_that_are_names(datasets):
    dm = saved(datasets, datasets.Value("string"))
    assert dm.class_names == ["cat", "dog", "owl"]
    assert dm.labels("test").tolist() == [0, 0, 1, 1, 2, 2]


def test_images_are_decoded_by_loading_processes(datasets):
    alone, shared = saved(datasets), data(num_workers=1)
    for one, other in zip(alone.test_dataloader(), shared.test_dataloader()):
        assert one[0].equal(other[0])


def test_a_folder_of_images(datasets):
    trees.folders(Path("photos"))
    dm = data("imagefolder", data_dir="photos", val_split=0.3)
    assert dm.class_names == ["cat", "dog", "owl"]
    assert dm.labels("val").tolist() == [0, 1, 2], "its own validation split is found"
    assert dm.dataset("test")[0][0].shape == (3, 16, 20)


def test_a_single_data_set_from_disk(datasets):
    rows = trees.images(Path("tree"), "train")
    columns = {"file": [str(Path("tree", file).absolute()) for file, _ in rows], "kind": [word for _, word in rows]}
    datasets.Dataset.from_dict(columns).save_to_disk("photos")
    dm = data(image_column="file", label_column="kind", val_split=0.3)
    assert dm.class_counts.tolist() == [4, 2, 1]
    assert dm.dataset("test") is None
    assert dm.dataset("val")[0][0].shape == (3, 16, 20), "a column of paths"


def test_bad_input(datasets):
    saved(datasets)
    with pytest.raises(LongTailError, match=r"no column 'img'\. Did you mean image"):
        _ = data(image_column="img").class_counts
    with pytest.raises(LongTailError, match=r"no split 'training'\. Did you mean train"):
        _ = data(train="training").class_counts
    with pytest.raises(LongTailError, match=r"'nowhere' cannot be loaded .* a name on the Hub or a folder here"):
        _ = data("nowhere").class_counts
    with pytest.raises(LongTailError, match=r"Column 'image' of photos is Image, expected one label"):
        _ = data(label_column="image").class_counts


@pytest.mark.filterwarnings("ignore:Classes with a single image")
def test_through_the_command_line(datasets, capsys):
    from longtail_lightning.cli.main import main
    from tests.cli.conftest import MODEL
    from tests.cli.test_data_modules import SMALL

    saved(datasets)
    args = ["--data=HuggingFaceLT", "--data.path=photos", *SMALL, "--trainer.max_epochs=1"]
    assert main(["fit", *MODEL, *args]) == 0, capsys.readouterr().err
    (checkpoint,) = Path("runs").rglob("best.ckpt")
    assert main(["test", "--ckpt_path", str(checkpoint)]) == 0
    assert main(["predict", "--ckpt_path", str(checkpoint), "--predictions.path=p.csv"]) == 0
    assert len(Path("p.csv").read_text().splitlines()) == 7
