"""`ltl verify` finds every damage to checkpoints, banks and shards."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtail_lightning import FeatureBank, SyntheticLongTail, prepare_shards
from longtail_lightning.cli.verify import items
from tests.cli.conftest import MODEL, TINY


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a run, a bank and shards."""
    from longtail_lightning.cli.main import main

    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *MODEL, *TINY, "--trainer.max_epochs=1"]) == 0
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(50, 8, generator=generator)
        FeatureBank.from_arrays(features, [i % 3 for i in range(50)], texts=[f"no {i}" for i in range(50)]).save("bank")
        data = SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2, val_per_class=1, test_per_class=1)
        prepare_shards(data, "shards")
    return folder


def test_everything_in_a_folder_is_found(ltl, written):
    status, out, err = ltl("verify", written)
    assert status == 0, err
    lines = [line.removeprefix(f"{written}/") for line in out.splitlines()]
    checkpoints = "runs/run/version_0/checkpoints"
    names = ("bank", f"{checkpoints}/best.ckpt", f"{checkpoints}/last.ckpt", "shards")
    assert lines == [f"{name} is whole" for name in names]


def test_no_flipped_bit_is_silent(ltl, written, tmp_path):
    """200 single bits of checkpoint, bank and shards: the command notices each of them."""
    shutil.copytree(written, tmp_path / "copy")
    parts = [tmp_path / "copy" / name for name in ("runs/run/version_0/checkpoints/best.ckpt", "bank", "shards")]
    draw = random.Random(3)
    for number in range(200):
        part = parts[number % 3]
        files = [part] if part.is_file() else sorted(part.iterdir())
        file = files[number // 3 % len(files)]
        good = file.read_bytes()
        bad = bytearray(good)
        place = draw.randrange(8 * len(bad))
        bad[place // 8] ^= 1 << place % 8
        file.write_bytes(bad)
        status, out, err = ltl("verify", part)
        # A bit of a header may make it one of another version, or no header at all.
        assert status in (1, 2), (file.name, place, out)
        assert out or err
        assert "Traceback" not in err
        file.write_bytes(good)
    assert ltl("verify", *parts)[0] == 0


def test_the_damaged_file_is_named(ltl, written, tmp_path):
    shutil.copytree(written / "bank", tmp_path / "bank")
    shutil.copytree(written / "shards", tmp_path / "shards")
    file = tmp_path / "bank" / "features.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    (tmp_path / "shards" / "val-index.arrow").unlink()
    status, out, _ = ltl("verify", tmp_path / "bank", tmp_path / "shards")
    assert status == 1
    assert "bank is damaged: features.npy is not what was written; make it again, or take a copy." in out
    assert "shards is damaged: val-index.arrow is missing" in out


def test_files_of_others(ltl):
    torch.save({"a": torch.ones(3)}, "a.pt")
    save_file({"a": torch.ones(3)}, "a.safetensors")
    status, out, _ = ltl("verify", "a.pt", "a.safetensors")
    assert status == 0
    assert "a.pt can be read; it carries no checksum of the whole" in out
    assert "a.safetensors can be read; files of this kind carry no checksum" in out
    Path("b.safetensors").write_bytes(b"no")
    Path("b.pth").write_bytes(b"no")
    status, out, _ = ltl("verify", "a.pt", "b.safetensors", "b.pth")
    assert status == 1
    assert "b.safetensors is not a safetensors file" in out
    assert "b.pth is not a checkpoint" in out


def test_what_is_nothing_of_these(ltl):
    Path("empty").mkdir()
    for path, words in (
        ("empty", "is no checkpoint, no feature bank, no folder of shards and no memory"),
        ("x", "no such file"),
    ):
        status, _, err = ltl("verify", path)
        assert status == 2
        assert words in err
    with pytest.raises(ValueError, match="holds none"):
        list(items(Path("empty")))
