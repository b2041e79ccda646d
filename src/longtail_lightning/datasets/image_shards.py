"""Images in a few large Arrow files instead of many small ones."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.decode import UnreadableImageError, decode_image

MANIFEST = "shards.json"
VERSION = 1


class _Batch(NamedTuple):
    """The images of one record batch: where each begins, and all their bytes; both lie in the mapped file."""

    offsets: np.ndarray
    content: np.ndarray


class ImageShards(Dataset[tuple[Tensor, int]]):
    """The images of a split in a folder that `ltl data prepare` wrote; item i is `(uint8 RGB image, label)`.

    Items have the order of the data set that they come from, so samplers, held-out images and long-tailed
    subsets are the same. Files are mapped into memory: any image can be read directly, and all loading
    processes share one copy. They are Arrow IPC files with the columns `image`, `label` and `path`, which
    any Arrow reader understands.

    Args:
        root: the folder.
        split: `"train"`, `"val"` or `"test"`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from longtail_lightning import SyntheticLongTail, prepare_shards
        >>> with TemporaryDirectory() as folder:
        ...     _ = prepare_shards(SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2), folder)
        ...     image, label = ImageShards(folder)[7]
        >>> image.shape, label
        (torch.Size([3, 32, 32]), 2)
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root = Path(root).expanduser()
        self.split = split
        splits = read_manifest(self.root)["splits"]
        if split not in splits:
            raise LongTailError(f"{self.root} holds no {split} split, only {' and '.join(splits)}.")
        self._files = [shard["file"] for shard in splits[split]["shards"]]
        self._ends = np.cumsum([shard["images"] for shard in splits[split]["shards"]])
        index = _arrow_table(self.root / splits[split]["index"])
        self.labels: Tensor = torch.from_numpy(index["label"].to_numpy().copy())
        if len(self.labels) != self._ends[-1]:
            raise LongTailError(f"{self.root}: {split} has {self._ends[-1]} images but {len(self.labels)} labels.")
        self._open: dict[int, tuple[np.ndarray, list[_Batch]]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            return decode_image(self.source(index)), int(self.labels[index])
        except UnreadableImageError as error:
            raise UnreadableImageError(str(error).replace("The image", self.file(index), 1)) from error

    def source(self, index: int) -> bytes:
        """The image file of item `index`."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        if shard not in self._open:
            self._open[shard] = _mapped(self.root / self._files[shard])
        ends, batches = self._open[shard]
        row = index - int(self._ends[shard - 1] if shard else 0)
        number = int(np.searchsorted(ends, row, side="right"))
        offsets, content = batches[number]
        row -= int(ends[number - 1] if number else 0)
        return content[offsets[row] : offsets[row + 1]].tobytes()

    def file(self, index: int) -> str:
        """The path that item `index` had."""
        path: str = self._paths[index].as_py()
        return path

    @cached_property
    def _paths(self) -> Any:
        return _arrow_table(self.root / read_manifest(self.root)["splits"][self.split]["index"])["path"]

    def __getstate__(self) -> dict[str, Any]:
        # Where loading processes are not forked, each maps the files itself.
        return {name: value for name, value in self.__dict__.items() if name != "_paths"} | {"_open": {}}


def read_manifest(root: Path) -> dict[str, Any]:
    """What a prepared folder holds."""
    file = root / MANIFEST
    if not file.is_file():
        begun = any(root.glob("*.arrow")) if root.is_dir() else False
        fix = (
            "it was not finished, run the same `ltl data prepare` again" if begun else "make it with `ltl data prepare`"
        )
        raise LongTailError(f"{root} is not a folder of shards ({MANIFEST} is missing): {fix}.")
    manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if manifest.get("version") != VERSION:
        raise LongTailError(f"{file} has version {manifest.get('version')}, this release reads version {VERSION}.")
    return manifest


def import_arrow() -> Any:
    """`pyarrow`, which is an optional dependency."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise LongTailError("Shards need pyarrow: pip install 'longtail-lightning[parquet]'.") from error
    return pyarrow


def _arrow_table(file: Path) -> Any:
    return open_arrow(file).read_all()


def open_arrow(file: Path) -> Any:
    """A reader of a mapped Arrow file."""
    arrow = import_arrow()
    try:
        return arrow.ipc.open_file(arrow.memory_map(str(file)))
    except FileNotFoundError as error:
        raise LongTailError(f"{file} is missing: copy it again, or run `ltl data prepare` again.") from error
    except arrow.ArrowInvalid as error:
        raise LongTailError(f"{file} is damaged ({error}): copy it again, or run `ltl data prepare` again.") from error


def _mapped(file: Path) -> tuple[np.ndarray, list[_Batch]]:
    """Last rows of the record batches of a shard, and their images."""
    reader = open_arrow(file)
    columns = [reader.get_batch(number).column("image") for number in range(reader.num_record_batches)]
    batches = []
    for column in columns:
        _, offsets, content = column.buffers()
        batches.append(_Batch(np.frombuffer(offsets, dtype=np.int32), np.frombuffer(content, dtype=np.uint8)))
    return np.cumsum([len(column) for column in columns]), batches
