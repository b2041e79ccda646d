"""Images in a few large Arrow files instead of many small ones."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning._open_file import require_file
from longtail_lightning.counts import as_labels
from longtail_lightning.datasets.decode import MAX_PIXELS, UnreadableImageError, decode_image, renamed
from longtail_lightning.datasets.shard_manifest import DamagedShardsError, read_manifest
from longtail_lightning.datasets.verify_shards import verify_shards


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
        verify: read all files first, and compare them with their checksums; sizes, labels and the numbers of
            images are compared in any case.
        max_pixels: larger images are refused before they are decoded.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from longtail_lightning import SyntheticLongTail, prepare_shards
        >>> with TemporaryDirectory() as folder:
        ...     _ = prepare_shards(SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2), folder)
        ...     image, label = ImageShards(folder)[7]
        >>> image.shape, label
        (torch.Size([3, 32, 32]), 2)
    """

    def __init__(
        self, root: str | Path, split: str = "train", *, verify: bool = False, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.root = Path(root).expanduser()
        self.split = split
        self.max_pixels = max_pixels
        manifest = read_manifest(self.root)
        if split not in manifest["splits"]:
            raise LongTailError(f"{self.root} holds no {split} split, only {' and '.join(manifest['splits'])}.")
        if verify and (wrong := verify_shards(self.root)):
            damage = ", ".join(f"{name} {what}" for name, what in wrong.items())
            raise DamagedShardsError(f"{self.root} is damaged: {damage}.", folder=self.root, files=wrong)
        _require_sizes(self.root, manifest)
        told = manifest["splits"][split]
        self._index = told["index"]
        self._files = [shard["file"] for shard in told["shards"]]
        self._ends = np.cumsum([shard["images"] for shard in told["shards"]], dtype=np.int64)
        self.labels: Tensor = self._read_labels(len(manifest["class_names"]))
        self._open: dict[int, tuple[np.ndarray, list[_Batch]]] = {}

    def _read_labels(self, num_classes: int) -> Tensor:
        file = self.root / self._index
        column = _columns(file, label="int64")["label"]
        if len(column) != self._ends[-1]:
            raise DamagedShardsError.of(file, f"{self._ends[-1]} images but {len(column)} labels")
        try:
            return as_labels(column.to_numpy().copy(), num_classes)
        except LongTailError as error:
            raise DamagedShardsError.of(file, str(error).partition(": ")[0].rstrip(".")) from error

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            return decode_image(self.source(index), max_pixels=self.max_pixels), int(self.labels[index])
        except UnreadableImageError as error:
            raise renamed(error, self.file(index)) from error

    def source(self, index: int) -> bytes:
        """The image file of item `index`."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        if shard not in self._open:
            first = int(self._ends[shard - 1]) if shard else 0
            self._open[shard] = _mapped(self.root / self._files[shard], int(self._ends[shard]) - first)
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
        return _columns(self.root / self._index, path="string")["path"]

    def __getstate__(self) -> dict[str, Any]:
        # Where loading processes are not forked, each maps the files itself.
        return {name: value for name, value in self.__dict__.items() if name != "_paths"} | {"_open": {}}


def import_arrow() -> Any:
    """`pyarrow`, which is an optional dependency."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise LongTailError("Shards need pyarrow: pip install 'longtail-lightning[parquet]'.") from error
    return pyarrow


def open_arrow(file: Path) -> Any:
    """A reader of a mapped Arrow file."""
    arrow = import_arrow()
    require_file(file)
    try:
        return arrow.ipc.open_file(arrow.memory_map(str(file)))
    except FileNotFoundError as error:
        raise LongTailError(f"{file} is missing: copy it again, or run `ltl data prepare` again.") from error
    except (arrow.ArrowException, OSError) as error:
        raise DamagedShardsError.of(file, str(error).split("\n")[0]) from error


def _columns(file: Path, **types: str) -> Any:
    """Columns of an index, checked: Arrow trusts what a file says of itself, and would read beyond its end."""
    arrow = import_arrow()
    reader = open_arrow(file)
    try:
        table = reader.read_all().select(list(types))
        table.validate(full=True)
    except (arrow.ArrowException, KeyError, OSError, MemoryError) as error:
        raise DamagedShardsError.of(file, str(error).split("\n")[0]) from error
    for name, kind in types.items():
        if str(table[name].type) != kind or table[name].null_count:
            raise DamagedShardsError.of(file, f"its {name}s are {table[name].type}")
    return table


def _mapped(file: Path, images: int) -> tuple[np.ndarray, list[_Batch]]:
    """Last rows of the record batches of a shard, and their images."""
    arrow = import_arrow()
    reader = open_arrow(file)
    try:
        columns = [reader.get_batch(number).column("image") for number in range(reader.num_record_batches)]
        batches = [_checked(column) for column in columns]
    except (arrow.ArrowException, KeyError, ValueError, OSError, MemoryError) as error:
        raise DamagedShardsError.of(file, str(error).split("\n")[0]) from error
    ends = np.cumsum([len(column) for column in columns], dtype=np.int64)
    if int(ends[-1] if len(ends) else 0) != images:
        raise DamagedShardsError.of(file, f"it holds {ends[-1] if len(ends) else 0} images instead of {images}")
    return ends, batches


def _checked(column: Any) -> _Batch:
    column.validate(full=True)
    if str(column.type) != "binary" or column.null_count or column.offset:
        raise ValueError(f"its images are {column.type}")
    _, offsets, content = column.buffers()
    return _Batch(np.frombuffer(offsets, dtype=np.int32), np.frombuffer(content, dtype=np.uint8))


def _require_sizes(root: Path, manifest: dict[str, Any]) -> None:
    """Refuse files of another size than they were written with."""
    for name, told in manifest.get("files", {}).items():
        try:
            size = (root / name).stat().st_size
        except OSError:
            continue  # a missing file is told when it is needed: a copy without the test split still trains
        if size != told["bytes"]:
            raise DamagedShardsError.of(root / name, f"{size} bytes instead of {told['bytes']}")
