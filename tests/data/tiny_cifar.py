"""Small folders in the very form of CIFAR's: Python 2 pickles of protocol 2, and what the originals contain."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2's `str`, as the original files have them."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin1")
        short = len(data) < 256
        self.write(b"U" + bytes([len(data)]) + data if short else b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def dump(content, path: Path) -> None:
    """Pickle like Python 2 with the numpy of that time."""
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    data = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    path.write_bytes(data)


def write_cifar10(root: Path, per_class: int = 10, test_per_class: int = 2, seed: int = 0) -> Path:
    """`cifar-10-batches-py` below root, labels in random order; gives the folder."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.RandomState(seed)
    labels = random.permutation(np.repeat(np.arange(10), per_class))
    for number, part in enumerate(np.array_split(labels, 5), 1):
        batch = {
            "batch_label": f"training batch {number} of 5",
            "labels": part.tolist(),
            "data": pixels(random, part),
            "filenames": [f"image_{index}.png" for index in range(len(part))],
        }
        dump(batch, folder / f"data_batch_{number}")
    labels = random.permutation(np.repeat(np.arange(10), test_per_class))
    dump({"labels": labels.tolist(), "data": pixels(random, labels)}, folder / "test_batch")
    return folder


def write_cifar100(root: Path, per_class: int = 5, test_per_class: int = 1, seed: int = 0) -> Path:
    """`cifar-100-python` below root; gives the folder."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    random = np.random.RandomState(seed)
    for name, count in (("train", per_class), ("test", test_per_class)):
        labels = random.permutation(np.repeat(np.arange(100), count))
        batch = {
            "fine_labels": labels.tolist(),
            "coarse_labels": (labels // 5).tolist(),
            "data": pixels(random, labels),
            "filenames": [f"image_{index}.png" for index in range(len(labels))],
        }
        dump(batch, folder / name)
    return folder


def pixels(random: np.random.RandomState, labels: np.ndarray) -> np.ndarray:
    """Rows of 3072 bytes, red, green, blue; the first pixel of each color tells the label."""
    data = random.randint(0, 256, (len(labels), 3072)).astype(np.uint8)
    data[:, [0, 1024, 2048]] = labels[:, None]
    return data
