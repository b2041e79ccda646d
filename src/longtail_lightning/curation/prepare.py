"""Write a data set as a few large files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms.v2 import functional as F

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import write_json
from longtail_lightning.curation._splits import SPLITS
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.datasets.decode import UnreadableImageError, decode_image
from longtail_lightning.datasets.image_shards import MANIFEST, VERSION, import_arrow, open_arrow, read_manifest
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.loader import ResumableLoader, one_thread
from longtail_lightning.datasets.nested import encoded_image, item_name
from longtail_lightning.datasets.read_text import few, shown
from longtail_lightning.datasets.seeded_dataset import SeededDataset

_PLAN = "unfinished.json"
_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 256


class Content(NamedTuple):
    """What a shard holds of an item."""

    image: bytes
    path: str


def prepare_shards(
    data: LongTailDataModule,
    out: str | Path,
    *,
    shard_size: int = 500,
    resize: int | None = None,
    quality: int = 95,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Copy the images of a data module into Arrow files that `ShardsLT` trains from.

    Files are copied byte by byte, in their order, so results do not change; with `resize`, larger images
    are made smaller once instead of in every epoch. Nothing that is half written is ever read, and the
    same call continues after an interruption. Training and test sets are those of the files: held-out
    images and long-tailed subsets are chosen when training starts, as ever.

    Args:
        data: the data module, or anything with `build` and `class_names`.
        out: a folder, which must be empty or new.
        shard_size: megabytes per file.
        resize: length of the shorter side; larger images become JPEGs of this size, smaller ones stay.
        quality: of those JPEGs.
        num_workers: processes that read.
        progress: called with the images written so far and all of them.

    Returns:
        Images per split.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from longtail_lightning import ShardsLT, SyntheticLongTail
        >>> dm = SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2)
        >>> with TemporaryDirectory() as folder:
        ...     written = prepare_shards(dm, folder)
        ...     written["train"], ShardsLT(folder).class_counts
        (8, ClassCounts([4, 2, 2]))
    """
    if shard_size < 1 or (resize is not None and resize < 1) or not 1 <= quality <= 100:
        raise LongTailError(
            f"shard_size={shard_size}, resize={resize}, quality={quality}: megabytes and pixels are at least 1, "
            "the quality lies between 1 and 100."
        )
    import_arrow()
    found = {split: data.build(split) for split in SPLITS}
    datasets = {split: dataset for split, dataset in found.items() if dataset is not None}
    folder = Path(out).expanduser()
    settings = {"shard_size": shard_size, "resize": resize, "quality": quality if resize else None}
    plan = {"source": _fingerprint(datasets), **settings}
    total = sum(_length(dataset) for dataset in datasets.values())
    if _begin(folder, plan):
        if progress is not None:
            progress(total, total)
        return {split: _length(dataset) for split, dataset in datasets.items()}
    if resize is None:
        _require_space(folder, datasets)

    def tell(images: int) -> None:
        if progress is not None:
            progress(images, total)

    done = 0
    splits: dict[str, Any] = {}
    for split, dataset in datasets.items():
        contents = _Contents(dataset, resize, quality)
        splits[split] = _write_split(
            folder, split, contents, shard_size << 20, num_workers, partial(_further, tell, done)
        )
        done += len(contents)
    manifest = {"version": VERSION, "format": "Arrow IPC", "class_names": data.class_names, **plan, "splits": splits}
    write_json(folder / MANIFEST, manifest)
    (folder / _PLAN).unlink()
    return {split: entry["images"] for split, entry in splits.items()}


def _further(tell: Callable[[int], None], before: int, images: int) -> None:
    tell(before + images)


def _length(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]


class _Contents(Dataset[Content]):
    """Items as the bytes of image files."""

    def __init__(self, dataset: Dataset[Any], resize: int | None, quality: int) -> None:
        self.dataset, self.resize, self.quality = dataset, resize, quality

    def __len__(self) -> int:
        return _length(self.dataset)

    def __getitem__(self, index: int) -> Content:
        name = item_name(self.dataset, index)
        source = encoded_image(self.dataset, index)
        if source is None:
            return Content(_png(self.dataset[index], name), name)
        data = source if isinstance(source, bytes) else _read(source)
        if not data:
            raise UnreadableImageError(f"{name} is empty (0 bytes): `ltl data check --fix list` leaves it out.")
        return Content(data if self.resize is None else self._smaller(data, name), name)

    def _smaller(self, data: bytes, name: str) -> bytes:
        assert self.resize is not None
        try:
            image = decode_image(data)
        except UnreadableImageError as error:
            raise UnreadableImageError(str(error).replace("The image", name, 1)) from error
        if min(image.shape[-2:]) <= self.resize:
            return data
        return _encoded(F.resize(image, [self.resize], antialias=True), "JPEG", quality=self.quality)


def _read(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        fix = "`ltl data check --fix list` leaves it out"
        raise UnreadableImageError(f"{path} cannot be read ({error.strerror}): {fix}.") from error


def _png(item: Any, name: str) -> bytes:
    """Images that are no files are kept without loss."""
    image = item[0] if isinstance(item, (tuple, list)) else item
    pixels = image.permute(1, 2, 0).numpy() if isinstance(image, Tensor) and image.ndim == 3 else np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise LongTailError(
            f"Item {name} is no 8-bit image but {pixels.dtype} of shape {pixels.shape}: shards hold images."
        )
    return _encoded(pixels, "PNG")


def _encoded(image: Tensor | np.ndarray, kind: str, **options: Any) -> bytes:
    pixels = image.permute(1, 2, 0).numpy() if isinstance(image, Tensor) else image
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


def _write_split(
    folder: Path,
    split: str,
    contents: _Contents,
    shard_bytes: int,
    num_workers: int,
    tell: Callable[[int], None],
) -> dict[str, Any]:
    """Write the shards that are not there yet, and the index of all."""
    labels = labels_of(contents.dataset).numpy()
    shards: list[dict[str, Any]] = []
    while (file := folder / f"{split}-{len(shards):05}.arrow").exists():
        shards.append({"file": file.name, "images": len(_columns(file))})
    rows = sum(shard["images"] for shard in shards)
    todo = _in_order(Subset(contents, range(rows, len(contents))), num_workers)
    while rows < len(contents):
        tell(rows)
        file = folder / f"{split}-{len(shards):05}.arrow"
        images = _write_shard(file, todo, labels[rows:], shard_bytes, partial(_further, tell, rows))
        shards.append({"file": file.name, "images": images})
        rows += images
    index = folder / f"{split}-index.arrow"
    arrow = import_arrow()
    with _whole(index) as sink:
        table = arrow.concat_tables([_columns(folder / shard["file"]) for shard in shards])
        with arrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return {"images": rows, "index": index.name, "shards": shards}


def _write_shard(
    file: Path, contents: Iterator[Content], labels: np.ndarray, shard_bytes: int, tell: Callable[[int], None]
) -> int:
    """Write images until the shard is full; how many there were."""
    arrow = import_arrow()
    schema = arrow.schema([("image", arrow.binary()), ("label", arrow.int64()), ("path", arrow.string())])
    images = size = 0
    with _whole(file) as sink, arrow.ipc.new_file(sink, schema) as writer:
        while size < shard_bytes and (batch := _take(contents, min(_BATCH_BYTES, shard_bytes))):
            columns = [
                arrow.array([content.image for content in batch], arrow.binary()),
                arrow.array(labels[images : images + len(batch)], arrow.int64()),
                arrow.array([shown(content.path) for content in batch], arrow.string()),
            ]
            writer.write_batch(arrow.record_batch(columns, schema=schema))
            images += len(batch)
            size += sum(len(content.image) for content in batch)
            tell(images)
    return images


def _take(contents: Iterator[Content], limit: int) -> list[Content]:
    """Some images: about `limit` bytes of them."""
    batch: list[Content] = []
    size = 0
    for content in contents:
        batch.append(content)
        size += len(content.image)
        if size >= limit or len(batch) == _BATCH_ROWS:
            break
    return batch


def _in_order(contents: Dataset[Content], num_workers: int) -> Iterator[Content]:
    loader = ResumableLoader(SeededDataset(contents), batch_size=16, num_workers=num_workers, worker_init_fn=one_thread)
    for images, paths, _ in loader:
        yield from map(Content, images, paths)


def _columns(file: Path) -> Any:
    """Labels and paths of a shard; its images stay on the disk."""
    return open_arrow(file).read_all().select(["label", "path"])


@contextmanager
def _whole(file: Path) -> Iterator[Any]:
    """Write a file under another name until it is whole and on the disk."""
    part = file.with_name(f"{file.name}.part")
    try:
        with open(part, "wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(part, file)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise LongTailError(
            f"{file} cannot be written ({reason}): make room and run the same again, it continues."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _fingerprint(datasets: Mapping[Split, Dataset[Any]]) -> str:
    """Names which images and labels these are, by their files."""
    digest = hashlib.sha256()
    for split, dataset in datasets.items():
        digest.update(f"{split} {_length(dataset)}\n".encode())
        digest.update(labels_of(dataset).numpy().tobytes())
        for index in range(_length(dataset)):
            digest.update(item_name(dataset, index).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:16]


def _begin(folder: Path, plan: Mapping[str, Any]) -> bool:
    """Make or find the folder; True when all is done already."""
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        if any(manifest.get(key) != value for key, value in plan.items()):
            raise LongTailError(f"{folder} holds shards of other images or settings: give another folder.")
        return True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(entry.name for entry in folder.iterdir())
        if _PLAN in held:
            if json.loads((folder / _PLAN).read_text(encoding="utf-8")) != plan:
                raise LongTailError(
                    f"{folder} holds the beginning of shards of other images or settings: "
                    "give another folder, or remove this one."
                )
        elif held:
            raise LongTailError(f"{folder} is not empty ({few(held)}): give a new folder.")
        else:
            write_json(folder / _PLAN, plan)
    except OSError as error:
        raise LongTailError(f"{folder} cannot be written ({error.strerror}): give another folder.") from error
    return False


def _require_space(folder: Path, datasets: Mapping[Split, Dataset[Any]]) -> None:
    """Refuse before hours of copying when the disk is too small; the sizes of some files tell."""
    needed = sum(_estimated_bytes(dataset) for dataset in datasets.values())
    there = sum(file.stat().st_size for file in folder.glob("*.arrow"))
    free = shutil.disk_usage(folder).free
    if needed - there > free:
        raise LongTailError(
            f"The images take about {needed / 1e9:.1f} GB, {folder} has {(free + there) / 1e9:.1f} GB left: "
            "give a folder on another disk, or make images smaller with --resize 256."
        )


def _estimated_bytes(dataset: Dataset[Any]) -> int:
    size = _length(dataset)
    sizes = []
    for index in range(0, size, max(1, size // 500)):
        source = encoded_image(dataset, index)
        if isinstance(source, bytes):
            sizes.append(len(source))
        elif source is not None and os.path.exists(source):
            sizes.append(os.path.getsize(source))
    return size * sum(sizes) // len(sizes) if sizes else 0
