"""The files of a bank: npy arrays, and a header in JSON that names them and comes last; never pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import (
    LOCK,
    locked,
    remove_unfinished,
    replace_file_with_checksum,
    size_and_checksum,
    writable,
    write_json,
)

HEADER = "bank.json"
FEATURES = "features.npy"
LABELS = "labels.npy"
PROGRESS = "extraction.json"
"""Stands where `HEADER` will be, until the last shard is written."""
DONE = "done"
"""Folder with one empty file per finished shard."""
FORMAT = 2

_PARTS = ("features", "labels", "ids", "ids_offsets", "texts", "texts_offsets")
_OLD_FILES = ("ids.jsonl", "texts.jsonl")  # of format 1
_FIELDS = {"dtype": str, "shape": list, "num_classes": int, "fingerprint": dict, "files": dict}
DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    SyntaxError,
    TokenError,
    OverflowError,
    MemoryError,
)
"""What opening a missing, cut or foreign file raises."""


class DamagedBankError(LongTailError):
    """What is in the folder of a bank is not what was written."""

    def __init__(self, message: str = "", *, folder: Path | None = None, files: Collection[str] = ()) -> None:
        super().__init__(message)
        self.folder = folder
        self.files = tuple(files)

    @classmethod
    def of(cls, folder: Path, reason: object, files: Collection[str] = ()) -> DamagedBankError:
        """The error of a bank, in one sentence."""
        return cls(f"The bank {folder} is damaged ({reason}): extract the features again.", folder=folder, files=files)


def write_bank(
    folder: Path, arrays: Mapping[str, np.ndarray], header: dict[str, Any], there: Collection[str] = ()
) -> None:
    """Make a folder this bank. Stopped anywhere, it is the bank that it was before, or this one.

    Args:
        folder: must be locked.
        arrays: what the bank consists of, without what is there.
        header: the other things to write.
        there: arrays whose files are in the folder already, but belong to no bank yet.
    """
    if not there:
        # Otherwise the new files would be taken for shards of an extraction that was never finished.
        (folder / PROGRESS).unlink(missing_ok=True)
    taken = _files_in_use(folder)
    files = {part: {"name": f"{part}.npy", **size_and_checksum(folder / f"{part}.npy")} for part in there}
    for part, array in arrays.items():
        name = next(name for name in (f"{part}.npy", f"{part}.2.npy") if name not in taken)
        told = replace_file_with_checksum(folder / name, lambda file, a=array: np.save(file, a, allow_pickle=False))  # type: ignore[misc]
        files[part] = {"name": name, **told}
    # From here on the folder is the new bank.
    told = {"format": FORMAT, **header, "files": files}
    write_json(folder / HEADER, {**told, "sha256": header_checksum(told)})
    _remove(folder, keep={HEADER, *(file["name"] for file in files.values())})


def header_checksum(header: Mapping[str, Any]) -> str:
    """Of what a header tells, without its own checksum."""
    told = {key: value for key, value in header.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def remove_bank(folder: Path) -> None:
    """Delete only the files of a bank, finished or not; the header goes first, so that no part is a bank."""
    (folder / HEADER).unlink(missing_ok=True)
    _remove(folder, keep=())


def read_bank(folder: Path, *, mmap: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header of a finished bank and its arrays, which fit each other."""
    while True:
        header = read_header(folder)
        try:
            arrays = _arrays(folder, header, mmap)
        except DAMAGED as error:
            if read_header(folder) == header:
                raise DamagedBankError.of(folder, error) from error
        else:
            if read_header(folder) == header:
                return header, arrays
        # Another process has saved a bank meanwhile: files of both would not fit each other.


def _arrays(folder: Path, header: Mapping[str, Any], mmap: bool) -> dict[str, np.ndarray]:
    arrays = {part: read_array(folder / file["name"], mmap=mmap) for part, file in header["files"].items()}
    features = arrays["features"]
    if features.ndim != 3 or features.dtype.kind != "f":
        raise ValueError(f"features are {features.dtype} of shape {features.shape}")
    found = {"shape": list(features.shape), "dtype": str(features.dtype)}
    if found != {key: header[key] for key in found}:
        raise ValueError(f"{HEADER} tells {header['shape']} of {header['dtype']}, features.npy holds {found}")
    return arrays


def read_header(folder: Path) -> dict[str, Any]:
    """The header of a finished bank, or the reason why there is none."""
    if (folder / HEADER).is_file():
        header = _read_object(folder / HEADER)
        if header.get("format") != FORMAT:
            raise LongTailError(
                f"The bank {folder} has format {header.get('format')}, this version of the library reads "
                f"{FORMAT}: extract the features again, with overwrite=True or into another folder."
            )
        if wrong := [key for key, kind in _FIELDS.items() if not isinstance(header.get(key), kind)]:
            raise DamagedBankError.of(folder, f"{HEADER} has no {wrong[0]}", [HEADER])
        _require_own_files(folder, header)
        return header
    if (folder / PROGRESS).is_file():
        progress = read_progress(folder)
        raise LongTailError(
            f"The bank {folder} is unfinished, {len(finished_shards(folder))} of {progress['shards']} shards are "
            f"there: continue with {progress['resume']}."
        )
    if inside := sorted(header.parent.name for header in folder.glob(f"*/{HEADER}")):
        one = folder / ("train" if "train" in inside else inside[0])
        raise LongTailError(
            f"{folder} is not a bank, but a folder of banks ({', '.join(inside)}): load one, such as {str(one)!r}."
        )
    raise LongTailError(f"{folder} is not a bank, as it has no {HEADER}: make one with extract_features(..., path).")


def read_progress(folder: Path) -> dict[str, Any]:
    """What an unfinished extraction has noted of itself."""
    return _read_object(folder / PROGRESS)


def finished_shards(folder: Path) -> dict[int, str]:
    """The shards of an unfinished extraction that are there, and the checksum of each."""
    # File systems and desktops leave files of their own, such as .DS_Store.
    markers = [file for file in (folder / DONE).iterdir() if file.name.isdecimal()] if (folder / DONE).is_dir() else []
    told = {int(file.name): file.read_text(encoding="utf-8") for file in markers}
    return {shard: checksum for shard, checksum in told.items() if checksum}  # an empty one is of an older release


def remove_leftovers(folder: Path) -> None:
    """Delete what a process left that died after the bank was finished, if the folder may be written to."""
    if any((folder / name).exists() for name in (LOCK, PROGRESS, DONE)):
        with suppress(LongTailError), locked(folder), writable(folder):
            _remove(folder, keep={HEADER, *_names(read_header(folder))})


def as_tensor(array: np.ndarray) -> Tensor:
    """The same memory as a tensor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def read_array(path: Path, *, mmap: bool = True) -> np.ndarray:
    """Read an npy file, or map it into memory; what is written to a mapped one never reaches the file."""
    array: np.ndarray
    if not mmap:
        array = np.load(path, allow_pickle=False)
        return array
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError:
        # Pages that could be copied on write are refused when they are more than the whole memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise DamagedBankError(
            f"{path} is damaged ({error}): delete it and extract the features again.",
            folder=path.parent,
            files=[path.name],
        ) from error
    return value


def _files_in_use(folder: Path) -> set[str]:
    """The files that the bank in the folder consists of."""
    if not (folder / HEADER).is_file():
        return set()
    try:
        return set(_names(_read_object(folder / HEADER)))
    except DAMAGED:
        return {FEATURES, LABELS}  # those of format 1; a damaged bank need not stay


def _require_own_files(folder: Path, header: Mapping[str, Any]) -> None:
    """Refuse a header that names a file outside of its folder."""
    for part, file in header["files"].items():
        if not isinstance(file, dict) or not {"name", "bytes", "sha256"} <= file.keys():
            raise DamagedBankError.of(folder, f"{HEADER} does not tell the file of its {part}", [HEADER])
        if Path(str(file["name"])).name != file["name"]:
            raise DamagedBankError.of(folder, f"{HEADER} names a file elsewhere, {file['name']!r}", [HEADER])


def _names(header: Mapping[str, Any]) -> list[str]:
    return [str(file["name"]) for file in header["files"].values()]


def _remove(folder: Path, keep: Collection[str]) -> None:
    names = (PROGRESS, *(f"{part}{end}" for part in _PARTS for end in (".npy", ".2.npy")), *_OLD_FILES)
    for name in names:
        if name not in keep:
            (folder / name).unlink(missing_ok=True)
    remove_unfinished(folder)
    if (folder / DONE).is_dir():
        shutil.rmtree(folder / DONE)
