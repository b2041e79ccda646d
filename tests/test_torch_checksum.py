from __future__ import annotations

import random
import zipfile
from functools import partial

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning._torch_checksum import DamagedFileError, check_checksum, write_with_checksum
from longtail_lightning._torch_files import read_torch_file, write_torch_file


def same(first, second):
    return str(first) == str(second) and all(map(torch.equal, *(v["state_dict"].values() for v in (first, second))))


def state_of(path):
    with open(path, "rb") as file:
        return check_checksum(file)


@pytest.fixture
def written(tmp_path):
    torch.manual_seed(0)
    value = {"state_dict": {"weight": torch.rand(40, 30), "bias": torch.rand(30)}, "epoch": 3, "names": ["a", "b"]}
    return write_torch_file(tmp_path / "x.ckpt", value), value


def test_torch_reads_it(written):
    path, value = written
    for read in (torch.load(path, weights_only=True), torch.load(path, mmap=True), read_torch_file(path, verify=True)):
        assert same(read, value)
    assert state_of(path) == "whole"
    assert zipfile.ZipFile(path).testzip() is None


def test_no_flipped_bit_is_silent(written):
    path, value = written
    good = path.read_bytes()
    draw = random.Random(1)
    places = [draw.randrange(8 * len(good)) for _ in range(200)] + list(range(8 * (len(good) - 130), 8 * len(good)))
    noticed = 0
    for place in places:
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(LongTailError):
            read_torch_file(path, verify=True)
        try:
            assert same(read_torch_file(path), value), "what is not noticed has changed nothing"
        except LongTailError:
            noticed += 1
    assert noticed > 150


def test_members_are_compared_without_verify(written):
    path, value = written
    good = path.read_bytes()
    at = good.index(value["state_dict"]["weight"].numpy().tobytes())
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    torch.load(path, weights_only=True)  # torch does not compare
    with pytest.raises(DamagedFileError, match=r"x\.ckpt is damaged \(Bad CRC-32"):
        read_torch_file(path)


@pytest.mark.parametrize("end", [10, 100, 1000, -1, -30, -100])
def test_the_end_is_missing(written, end):
    path, _ = written
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(LongTailError, match="damaged"):
        read_torch_file(path)


def test_files_of_others_have_no_checksum(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(2)}, path)
    assert state_of(path) == "no checksum"
    assert read_torch_file(path, verify=True)["a"].tolist() == [1, 1]
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    state_of(path)
    assert state_of(path) == "no checksum"
    assert read_torch_file(path, verify=True)["a"].tolist() == [1, 1]
    path.write_bytes(b"")
    assert state_of(path) == "no checksum"
    with pytest.raises(LongTailError, match="is not a checkpoint, or is damaged"):
        read_torch_file(path)


def test_a_packed_archive_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(LongTailError, match="is compressed"):
        read_torch_file(path)


def test_the_checksum_is_over_all_that_is_written(tmp_path):
    for size in (0, 1, 1 << 20, (1 << 20) + 3):
        path = tmp_path / "file"
        with open(path, "w+b") as file:
            write_with_checksum(file, partial(torch.save, torch.zeros(size, dtype=torch.uint8)))
        assert state_of(path) == "whole"
        assert torch.load(path, weights_only=True).numel() == size
