"""Look at one image of a data set: can it be decoded, what is in it, is there anything odd about it?"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning.datasets.decode import (
    TooLargeImageError,
    UnreadableImageError,
    decode_image,
    open_image,
    read_image_file,
)
from longtail_lightning.datasets.image_size import jpeg_frame
from longtail_lightning.datasets.nested import encoded_image, max_pixels_of

BROKEN = ("missing", "empty", "truncated", "unreadable", "huge")
"""What keeps an image from being decoded."""
ODD = ("tiny", "elongated", "cmyk", "deep", "animated", "rotated")
"""What is no fault but worth knowing."""
TINY = 16
ELONGATED = 6

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")


class Seen(NamedTuple):
    """What one look at an image gave."""

    broken: str | None
    detail: str
    digest: bytes
    odd: tuple[str, ...]


class Probe(Dataset[Seen]):
    """All images of several data sets, one after the other; an item is what one look at an image gave.

    Args:
        datasets: their items are images, or `(image, label)`.
        pixels: compare decoded pixels instead of files.
    """

    def __init__(self, datasets: Sequence[Dataset[Any]], *, pixels: bool = False) -> None:
        self.datasets = datasets
        self.pixels = pixels
        self.ends = list(accumulate(len(dataset) for dataset in datasets))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, position: int) -> Seen:
        part = bisect_right(self.ends, position)
        index = position - (self.ends[part - 1] if part else 0)
        return look(self.datasets[part], index, pixels=self.pixels)


def look(dataset: Dataset[Any], index: int, *, pixels: bool = False) -> Seen:
    """Read and decode one image."""
    source = encoded_image(dataset, index)
    if source is None:
        return _look_at_item(dataset, index)
    max_pixels = max_pixels_of(dataset, index)
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = read_image_file(source, max_pixels)
        except TooLargeImageError as error:
            return _broken("huge", _after(error, source))
        except FileNotFoundError:
            return _broken("missing", "a link to nowhere" if os.path.islink(source) else "there is no such file")
        except OSError as error:
            return _broken("unreadable", error.strerror or type(error).__name__)
    if not data:
        return _broken("empty", "0 bytes")
    try:
        image = decode_image(data, max_pixels=max_pixels)
    except TooLargeImageError as error:
        return _broken("huge", _after(error, "The image"))
    except UnreadableImageError as error:
        return _broken("truncated" if data.startswith(_BEGINNINGS) else "unreadable", _reason(error))
    digest = _digest_of(image) if pixels else hashlib.sha256(data).digest()
    return Seen(None, "", digest, (*_odd_shape(image), *_odd_file(data)))


def _after(error: Exception, name: object) -> str:
    """What an error says of an image: `has ..., more than ...`, without what to do."""
    return str(error).removeprefix(f"{name} ").partition(": ")[0]


def _broken(kind: str, detail: str) -> Seen:
    return Seen(kind, detail, b"", ())


def _look_at_item(dataset: Any, index: int) -> Seen:
    try:
        item = dataset[index]
    except (UnreadableImageError, OSError) as error:
        return _broken("unreadable", _reason(error))
    image = item[0] if isinstance(item, (tuple, list)) else item
    image = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if image.ndim == 3 and image.shape[0] > 4 >= image.shape[2]:
        image = image.permute(2, 0, 1)
    return Seen(None, "", _digest_of(image), _odd_shape(image))


def _reason(error: Exception) -> str:
    match = re.search(r"\((.*)\)\.$", str(error), re.DOTALL)
    return match[1] if match else str(error).split("\n")[0]


def _digest_of(image: Tensor) -> bytes:
    pixels = image.movedim(0, -1) if image.ndim == 3 else image  # decoders keep the channels of a pixel together
    array = pixels.contiguous().numpy()
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(array.data)
    return digest.digest()


def _odd_shape(image: Tensor) -> tuple[str, ...]:
    short, long = sorted(image.shape[-2:])
    return ("tiny",) * (short < TINY) + ("elongated",) * (long > ELONGATED * short)


def _odd_file(data: bytes) -> tuple[str, ...]:
    frame = jpeg_frame(data)
    if frame is not None and not frame.has_exif and frame.channels in (1, 3):
        return ()  # as most images are; Pillow takes ten times as long to say so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = open_image(data)
            exif = header.getexif().get(_ORIENTATION, 1) if _may_hold_exif(header) else 1
        except Exception:  # torchvision decodes a few files whose header Pillow does not like
            return ()
    deep = header.mode in ("I", "F") or header.mode.startswith("I;16") or (data[:4] == b"\x89PNG" and data[24] == 16)
    # Phones store a preview as the second picture of a JPEG; that is no animation.
    animated = header.format != "MPO" and getattr(header, "is_animated", False)
    found = {"cmyk": header.mode == "CMYK", "deep": deep, "animated": animated, "rotated": exif in range(2, 9)}
    return tuple(name for name, true in found.items() if true)


_ORIENTATION = 0x0112


def _may_hold_exif(header: Image.Image) -> bool:
    # Looking for EXIF in a PNG decodes the whole picture, unless it stands in the header.
    return "exif" in header.info or header.format == "TIFF"
