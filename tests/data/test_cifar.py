from __future__ import annotations

import io
import pickle
import tarfile
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
import torchvision

from longtail_lightning import CIFAR10LT, CIFAR100LT, labels_of, long_tail_counts
from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.read_cifar import read_batch
from tests.data.tiny_cifar import dump, write_cifar10, write_cifar100
from tests.reference.data import ldam_counts, ldam_subset
from tests.tiny import tiny_model, tiny_trainer

ROOT = Path("data")


@pytest.mark.parametrize(
    ("module", "write", "num_classes"), [(CIFAR10LT, write_cifar10, 10), (CIFAR100LT, write_cifar100, 100)]
)
def test_reads_what_torchvision_reads(module, write, num_classes, monkeypatch):
    folder = write(ROOT)
    original = module.official
    monkeypatch.setattr(original, "_check_integrity", lambda self: True)
    monkeypatch.setattr(original, "_load_meta", lambda self: None)
    data = module(imbalance_factor=None)
    for split in ("train", "test"):
        theirs, ours = original("data", train=split == "train"), data.dataset(split)
        assert labels_of(ours).tolist() == theirs.targets
        assert np.array_equal(ours.images.permute(0, 2, 3, 1).numpy(), theirs.data)
    assert data.num_classes == len(data.class_names) == len(set(data.class_names)) == num_classes
    assert data.dataset("val") is None
    assert module(folder, imbalance_factor=None).class_counts == data.class_counts, "the folder itself will do"


@pytest.mark.parametrize("profile", ["exp", "step"])
def test_the_subset_of_ldam(profile):
    write_cifar10(ROOT, per_class=60)
    data = CIFAR10LT(imbalance_factor=20, profile=profile)
    labels = CIFAR10LT(imbalance_factor=None).labels("train").tolist()
    expected = ldam_subset(labels, ldam_counts(600, 10, 20, profile))
    assert sorted(data.dataset("train").indices) == sorted(expected)
    assert data.class_counts == long_tail_counts(10, 60, 20, profile)
    assert str(data.subset_id).startswith(f"CIFAR10LT-{profile}-20, seed 0, {len(expected)} images, sha256 ")


def test_the_defaults_are_the_benchmark():
    data = CIFAR10LT()
    assert (data.imbalance_factor, data.profile, data.subset_seed, data.subset_draw) == (100, "exp", 0, "random")
    assert data.mean == (0.4914, 0.4822, 0.4465)
    assert CIFAR100LT().mean == (0.5071, 0.4865, 0.4409)
    assert (data.transforms.padding, data.transforms.flip) == (4, True)


def test_held_out_images_are_training_images():
    write_cifar10(ROOT)
    data = CIFAR10LT(imbalance_factor=2, val_split=0.25)
    train, val = data.dataset("train"), data.dataset("val")
    whole = CIFAR10LT(imbalance_factor=2).dataset("train")
    assert len(train) + len(val) == len(whole)
    assert not set(train.indices) & set(val.indices)


def test_class_names_are_the_official_ones():
    names = CIFAR100LT().class_names
    assert names == sorted(names)
    assert names[8], names[52] == ("bicycle", "oak tree")
    assert CIFAR10LT().class_names[9] == "truck"


def test_trains_and_tests():
    write_cifar10(ROOT)
    data = CIFAR10LT(imbalance_factor=5, batch_size=16)
    model, trainer = tiny_model(data), tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    (results,) = trainer.test(model, data, verbose=False)
    assert 0 <= results["test/acc"] <= 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_batches_written_by_python_3(protocol):
    content = {"data": np.arange(6144, dtype=np.uint8).reshape(2, 3072), "labels": [0, 1], "batch_label": b"test"}
    Path("batch").write_bytes(pickle.dumps(content, protocol))
    batch = read_batch(Path("batch"))
    assert np.array_equal(batch["data"], content["data"])
    assert batch["labels"] == [0, 1]


class Evil:
    def __reduce__(self):
        return (open, ("pwned", "w"))


def test_a_pickle_cannot_run_code():
    folder = write_cifar10(ROOT)
    dump({"labels": [0], "data": np.zeros((1, 3072), dtype=np.uint8), "more": Evil()}, folder / "data_batch_3")
    with pytest.raises(LongTailError, match=r"data_batch_3: it asks for .*open, .* may run code"):
        _ = CIFAR10LT().class_counts
    assert not Path("pwned").exists()


def test_what_is_missing_is_said_with_the_fix():
    with pytest.raises(
        LongTailError, match=r"There is no data/cifar-100-python: set download=True .* with train, test"
    ):
        _ = CIFAR100LT().class_counts
    ROOT.mkdir()
    archive = ROOT / "cifar-10-python.tar.gz"
    archive.touch()
    with pytest.raises(LongTailError, match=r"is not unpacked: run `tar xzf cifar-10-python.tar.gz` in data"):
        CIFAR10LT().prepare_data()
    with pytest.raises(LongTailError, match=r"is a file: unpack it"):
        CIFAR10LT(archive).prepare_data()


@pytest.mark.parametrize("download", [False, True])
def test_an_incomplete_folder_is_named(download):
    folder = write_cifar10(ROOT)
    (folder / "data_batch_2").unlink()
    with pytest.raises(LongTailError, match=r"cifar-10-batches-py lacks data_batch_2: delete the folder"):
        _ = CIFAR10LT(download=download).class_counts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}q", r"test_batch cannot be read \(UnpicklingError\): delete the folder"),
        (b"<html>", "test_batch cannot be read"),
        (pickle.dumps([1]), "holds a list, not a batch of CIFAR"),
        (pickle.dumps({"labels": [1]}), "lacks an array 'data' or a list 'labels'"),
        (pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [1, 1]}), r"uint8 images of shape \(2, 5\) for 2"),
    ],
)
def test_broken_batches_are_named(content, message):
    folder = write_cifar10(ROOT)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(LongTailError, match=message):
        CIFAR10LT().test_dataloader()


@pytest.fixture
def archive(monkeypatch):
    """A small archive where torchvision's class says that the original is."""
    write_cifar10(Path("far"))
    with tarfile.open("cifar.tar.gz", "w:gz") as tar:
        tar.add("far/cifar-10-batches-py", "cifar-10-batches-py")
        tar.addfile(tarfile.TarInfo("cifar-10-batches-py/readme.html"), io.BytesIO())
    path = Path("cifar.tar.gz").absolute()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(path.parent))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{path.name}"
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", url)
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(path.read_bytes()).hexdigest())
        yield path
        server.shutdown()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_download(archive):
    data = CIFAR10LT(download=True, imbalance_factor=None)
    assert data.class_counts.total == 100, "counts are asked for before prepare_data"
    assert [path.name for path in ROOT.iterdir()] == ["cifar-10-batches-py"], "nothing else is left"
    archive.unlink()
    CIFAR10LT(download=True).prepare_data()  # what is there is not fetched again


def test_the_root_may_be_in_the_home_folder(monkeypatch):
    write_cifar10(ROOT)
    monkeypatch.setenv("HOME", str(ROOT.absolute().parent))
    assert CIFAR10LT("~/data", imbalance_factor=None).class_counts.num_classes == 10


def test_an_archive_that_is_there_is_unpacked(archive, monkeypatch):
    ROOT.mkdir()
    archive.rename(ROOT / "cifar-10-python.tar.gz")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "file:///nowhere")
    assert len(CIFAR10LT(download=True).dataset("test")) == 20


def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(archive):
    archive.unlink()
    with pytest.raises(LongTailError, match=r"could not be downloaded to data .*: download it by other means"):
        CIFAR10LT(download=True).prepare_data()
    assert list(ROOT.iterdir()) == []


def test_other_processes_of_the_machine_wait(archive, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("longtail_lightning.data.cifar._PATIENCE", 1)
    with pytest.raises(LongTailError, match="did not appear within 1 s"):
        CIFAR10LT(download=True).prepare_data()
    monkeypatch.setenv("LOCAL_RANK", "0")
    CIFAR10LT(download=True).prepare_data()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert torch.equal(CIFAR10LT(download=True).labels("test"), CIFAR10LT().labels("test"))
