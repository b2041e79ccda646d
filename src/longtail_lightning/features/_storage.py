"""The files of a bank: plain npy, JSON and JSON lines, each written whole or not at all; never pickle."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError

HEADER = "bank.json"
FEATURES = "features.npy"
LABELS = "labels.npy"
IDS = "ids.jsonl"
TEXTS = "texts.jsonl"
PROGRESS = "extraction.json"
"""Stands where `HEADER` will be, until the last shard is written."""
DONE = "done"
"""Folder with one empty file per finished shard."""
FORMAT = 1
DAMAGED = (OSError, ValueError, EOFError)
"""What opening a missing, cut or foreign file raises."""


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file at once."""
    _replace(path, lambda file: file.write(json.dumps(value, indent=2).encode()))


def read_json(path: Path) -> Any:
    """Read a JSON file that holds an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LongTailError(f"{path} is damaged ({error}): delete it and extract the features again.") from error
    return value


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an npy file at once."""
    _replace(path, lambda file: np.save(file, array, allow_pickle=False))


def read_array(path: Path, *, mmap: bool = False) -> np.ndarray:
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


def as_tensor(array: np.ndarray) -> Tensor:
    """The same memory as a tensor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def write_lines(path: Path, items: Sequence[Any]) -> None:
    """Write one JSON value per line, at once."""
    _replace(path, lambda file: file.writelines(f"{json.dumps(item)}\n".encode() for item in items))


def read_lines(path: Path) -> list[Any]:
    """Read one JSON value per line."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _replace(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            write(file)
            to_disk(file)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def to_disk(file: IO[bytes]) -> None:
    """Wait until everything that was written lies on the disk."""
    file.flush()
    os.fsync(file.fileno())
