"""Write the images of a split into a few large files."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms.v2 import functional as F

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import replace_file
from longtail_lightning.curation._unfinished import Unfinished
from longtail_lightning.datasets.decode import UnreadableImageError, decode_image, read_image_file, renamed
from longtail_lightning.datasets.image_shards import import_arrow, open_arrow
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.loader import ResumableLoader
from longtail_lightning.datasets.loading_process import one_thread
from longtail_lightning.datasets.nested import encoded_image, item_name, max_pixels_of
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
        max_pixels = max_pixels_of(self.dataset, index)
        data = source if isinstance(source, bytes) else _read(source, max_pixels)
        if not data:
            raise UnreadableImageError(f"{name} is empty (0 bytes): `ltl data check --fix list` leaves it out.")
        return Content(data if self.resize is None else self._smaller(data, name, max_pixels), name)

    def _smaller(self, data: bytes, name: str, max_pixels: int) -> bytes:
        assert self.resize is not None
        try:
            image = decode_image(data, max_pixels=max_pixels)
        except UnreadableImageError as error:
            raise renamed(error, name) from error
        if min(image.shape[-2:]) <= self.resize:
            return data
        return _encoded(F.resize(image, [self.resize], antialias=True), "JPEG", quality=self.quality)


def _read(path: str | Path, max_pixels: int) -> bytes:
    try:
        return read_image_file(path, max_pixels)
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
    split: str,
    contents: Contents,
    shard_bytes: int,
    num_workers: int,
    tell: Callable[[int], None],
    unfinished: Unfinished,
) -> dict[str, Any]:
    """Write the shards that are not there yet, or no longer whole, and the index of all."""
    folder, labels = unfinished.folder, labels_of(contents.dataset).numpy()
    shards: list[dict[str, Any]] = []
    rows, todo = 0, None
    while rows < len(contents):
        file = folder / f"{split}-{len(shards):05}.arrow"
        if images := unfinished.kept(file.name, rows):
            todo = None
        else:
            tell(rows)
            todo = todo or _in_order(Subset(contents, range(rows, len(contents))), num_workers)
            images = _write_shard(file, todo, labels[rows:], shard_bytes, counted_from(rows, tell))
            unfinished.add(file.name, rows, images)
        shards.append({"file": file.name, "images": images})
        rows += images
    index = folder / f"{split}-index.arrow"
    table = import_arrow().concat_tables([_columns(folder / shard["file"]) for shard in shards])
    _write_whole(index, lambda sink: _write_table(sink, table))
    unfinished.add(index.name, 0, rows)
    return {"images": rows, "index": index.name, "shards": shards}


def _write_table(sink: IO[bytes], table: Any) -> None:
    with import_arrow().ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _write_shard(
    file: Path, contents: Iterator[Content], labels: np.ndarray, shard_bytes: int, tell: Callable[[int], None]
) -> int:
    """Write images until the shard is full; return how many."""
    arrow = import_arrow()
    schema = arrow.schema([("image", arrow.binary()), ("label", arrow.int64()), ("path", arrow.string())])
    images = 0

    def write(sink: IO[bytes]) -> None:
        nonlocal images
        size = 0
        with arrow.ipc.new_file(sink, schema) as writer:
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

    _write_whole(file, write)
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


def _write_whole(file: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file as a whole, or say how to go on."""
    try:
        replace_file(file, write)
    except LongTailError as error:
        cause = error.__cause__
        if isinstance(error, UnreadableImageError) or not isinstance(cause, OSError):
            raise
        reason = "the disk is full" if cause.errno == errno.ENOSPC else cause.strerror or str(cause)
        raise LongTailError(
            f"{file} cannot be written ({reason}): make room and run the same command again; it continues."
        ) from cause
