"""The files of CIFAR-10 and CIFAR-100 in their Python version."""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._open_file import open_file
from longtail_lightning.datasets.array_images import ArrayImages

# The only names that a batch may unpickle; numpy's modules had other names when old files were written.
_REBUILD: Any = np.empty(0, dtype=np.uint8).__reduce__()[0]
_FROM_BUFFER: Any = np.empty(0, dtype=np.uint8).__reduce_ex__(5)[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _REBUILD for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROM_BUFFER for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


def read_batches(files: Sequence[Path], labels_key: str) -> ArrayImages:
    """Images and labels of pickled batches, in order.

    torchvision's reader accepts only the original files, and unpickles whatever they hold. This one accepts
    any files of the same form, and unpickles nothing but arrays.

    Args:
        files: the batches.
        labels_key: `"labels"`, `"fine_labels"` or `"coarse_labels"`.
    """
    images, labels = [], []
    for file in files:
        batch = read_batch(file)
        data, own = batch.get("data"), batch.get(labels_key)
        if not isinstance(data, np.ndarray) or not isinstance(own, list):
            raise LongTailError(f"{file} is not a batch of CIFAR: it lacks an array 'data' or a list {labels_key!r}.")
        if data.dtype != np.uint8 or data.shape != (len(own), 3 * 32 * 32):
            raise LongTailError(f"{file} has {data.dtype} images of shape {data.shape} for {len(own)} labels.")
        images.append(torch.from_numpy(data if data.flags.writeable else data.copy()).view(-1, 3, 32, 32))
        labels += own
    return ArrayImages(torch.cat(images), labels)


def read_batch(file: Path) -> dict[str, Any]:
    """Read one pickled dictionary; refuse any other code in the pickle."""
    try:
        with open_file(file) as stream:
            batch = _ArraysOnly(stream, encoding="latin1").load()
    except LongTailError as error:
        raise LongTailError(f"{file}: {error}") from error
    except Exception as error:  # broken pickles raise a dozen types
        raise LongTailError(
            f"{file} cannot be read ({type(error).__name__}): delete the folder and download it again."
        ) from error
    if not isinstance(batch, dict):
        raise LongTailError(f"{file} holds a {type(batch).__name__}, not a batch of CIFAR: download it again.")
    return batch


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise LongTailError(
                f"it asks for {module}.{name}, which CIFAR never uses and which may run code: "
                "it is not loaded; download the original archive."
            )
        return _ALLOWED[module, name]
