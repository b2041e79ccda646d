from __future__ import annotations

import json

import pytest
import torch

from longtail_lightning import FeatureBank, LongTailError, extract_features, verify_bank
from longtail_lightning.features._storage import DamagedBankError
from tests.features.data import encoder, loader


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def bank(**options):
    return FeatureBank.from_arrays(torch.zeros(3, 4), [0, 1, 1], ["a", "b", "c"], ["x", "y", "z"], **options)


@pytest.mark.parametrize(
    "name", ["features.npy", "labels.npy", "ids.npy", "ids_offsets.npy", "texts.npy", "texts_offsets.npy"]
)
def test_each_damaged_file_is_named(tmp_path, name):
    folder = bank().save(tmp_path / "bank")
    assert verify_bank(folder) == {}
    assert len(FeatureBank.load(folder, verify=True)) == 3
    flip(folder / name)
    assert verify_bank(str(folder)) == {name: "is not what was written"}
    with pytest.raises(DamagedBankError, match=rf"is damaged \({name} is not what was written\)") as error:
        FeatureBank.load(folder, verify=True)
    assert (error.value.folder, error.value.files) == (folder, (name,))


def test_cut_and_missing_files(tmp_path):
    folder = bank().save(tmp_path)
    (folder / "labels.npy").write_bytes(b"")
    (folder / "ids.npy").unlink()
    assert verify_bank(folder) == {"labels.npy": "has 0 bytes instead of 152", "ids.npy": "is missing"}
    with pytest.raises(LongTailError, match="is not a bank"):
        verify_bank(tmp_path / "nothing")


def test_an_extracted_bank_is_whole(tmp_path):
    extract_features(encoder(), loader(), tmp_path, progress=False)
    assert verify_bank(tmp_path) == {}
    (tmp_path / "features.npy").unlink()
    assert verify_bank(tmp_path) == {"features.npy": "is missing"}


def test_what_a_header_names_lies_in_the_folder(tmp_path):
    folder = bank().save(tmp_path / "bank")
    header = json.loads((folder / "bank.json").read_text())
    header["files"]["ids"]["name"] = "../ids.npy"
    (folder / "bank.json").write_text(json.dumps(header))
    for opens in (FeatureBank.load, verify_bank):
        with pytest.raises(DamagedBankError, match=r"bank\.json names a file elsewhere, '\.\./ids\.npy'"):
            opens(folder)
