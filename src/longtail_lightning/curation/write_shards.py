"""Write the images of a split into a few large files."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms.v2 import functional as F

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.decode import UnreadableImageError, decode_image
from longtail_lightning.datasets.image_shards import import_arrow, open_arrow
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.loader import ResumableLoader
from longtail_lightning.datasets.loading_process import one_thread
from longtail_lightning.datasets.nested import encoded_image, item_name
from longtail_lightning.datasets.read_text import shown
from longtail_lightning.datasets.seeded_dataset import SeededDataset

_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 256


class Content(NamedTuple):
    """What a shard holds of an item."""

    image: bytes
    path: str


def counted_from(done: int, tell: Callable[[int], None]) -> Callable[[int], None]:
    """Progress that counts on from the images that were done before."""
    return lambda images: tell(done + images)


class Contents(Dataset[Content]):
    """Items as the bytes of image files."""

    def __init__(self, dataset: Dataset[Any], resize: int | None, quality: int) -> None:
        self.dataset, self.resize, self.quality = dataset, resize, quality

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

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
    """Encode an image that has no file as PNG, without loss."""
    image = item[0] if isinstance(item, (tuple, list)) else item
    pixels = image.permute(1, 2, 0).numpy() if isinstance(image, Tensor) and image.ndim == 3 else np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise LongTailError(
            f"Item {name} is not an 8-bit image but {pixels.dtype} of shape {pixels.shape}: shards hold images."
        )
    return _encoded(pixels, "PNG")


def _encoded(image: Tensor | np.ndarray, kind: str, **options: Any) -> bytes:
    pixels = image.permute(1, 2, 0).numpy() if isinstance(image, Tensor) else image
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


def write_split(
    folder: Path,
    split: str,
    contents: Contents,
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
        images = _write_shard(file, todo, labels[rows:], shard_bytes, counted_from(rows, tell))
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
    """Write images until the shard is full; return how many."""
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
            f"{file} cannot be written ({reason}): make room and run the same command again; it continues."
        ) from error
    finally:
        part.unlink(missing_ok=True)
