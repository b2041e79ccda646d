"""Decode any image file into a uint8 tensor that shows what a person would see."""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._open_file import open_file
from longtail_lightning.datasets.image_size import jpeg_frame

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision 0.29 announces this for a later release; Pillow then decodes all
    decode_jpeg = None  # type: ignore[assignment]

ImageSource = str | Path | bytes

MAX_PIXELS = 2 * 89_478_485
"""Pixels of the largest image that is decoded when nothing else is said, as in Pillow."""
_BYTES_PER_PIXEL = 16  # 4 channels of 32 bits, uncompressed
_SMALL = 64 << 20
# Pillow knows 40 more: one of them, EPS, is a program that Ghostscript runs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "MPO", "ICO", "PCX")
_lock = threading.Lock()


class UnreadableImageError(LongTailError):
    """An image file that is missing, empty, truncated or no image at all."""


class TooLargeImageError(UnreadableImageError):
    """An image with more pixels than are decoded."""


def decode_image(source: ImageSource | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read an image as uint8 RGB, `(3, height, width)`.

    Grayscale, palette, CMYK and 16-bit images become 8-bit RGB, EXIF rotation is applied, an
    animation gives its first frame, transparency is dropped. JPEG goes through torchvision, which
    decodes to the same pixels as Pillow without the way through a PIL image.

    Args:
        source: a path, the bytes of a file, or a PIL image.
        max_pixels: an image with more pixels is refused before it is decoded: a file of 1 kB may claim
            billions of them, which would fill the memory.

    Examples:
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2), 255).save(file, "PNG")
        >>> decode_image(file.getvalue()).shape
        torch.Size([3, 2, 4])
    """
    where = str(source) if isinstance(source, (str, Path)) else "The image"
    data = _read(source, max_pixels) if isinstance(source, (str, Path)) else source
    if not data:
        raise UnreadableImageError(f"{where} is empty (0 bytes).")
    try:
        if isinstance(data, Image.Image):
            return _rgb(data, max_pixels)
        frame = jpeg_frame(data) if decode_jpeg is not None else None
        if frame is not None:
            _require_size(frame.width, frame.height, max_pixels)
            return _jpeg(data)
        return _any_format(data, max_pixels)
    except _Size as error:
        raise TooLargeImageError(
            f"{where} has {error}, more than max_pixels={max_pixels:,}: make it smaller, or raise max_pixels."
        ) from None
    except Exception as error:  # Pillow and torchvision raise a dozen types for broken files
        reason = str(error).rpartition(": ")[2].split("\n")[0] or type(error).__name__
        reason = re.sub(r"^\w+, \S+\.cpp:\d+, ", "", reason)  # torchvision's own source
        if "cannot identify" in str(error):
            reason = "no known image format"
        raise UnreadableImageError(f"{where} cannot be decoded ({reason}).") from error


def renamed(error: UnreadableImageError, name: str) -> UnreadableImageError:
    """The same error with the name of the image, for one that came as bytes."""
    return type(error)(str(error).replace("The image", name, 1))


class _Size(Exception):
    """More pixels than are decoded."""


def _require_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _Size(f"{width:,} x {height:,} pixels")


def read_image_file(path: str | Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of an image file; refuse one that is larger than any image of so many pixels.

    Raises:
        OSError: when it cannot be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max(_SMALL, _BYTES_PER_PIXEL * max_pixels):
            raise TooLargeImageError(
                f"{path} has {size:,} bytes, more than an image of max_pixels={max_pixels:,} takes: make it smaller, "
                "or raise max_pixels."
            )
        return file.read()


def _read(path: str | Path, max_pixels: int) -> bytes:
    try:
        return read_image_file(path, max_pixels)
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be read ({error.strerror}).") from error


def _jpeg(data: bytes) -> Tensor:
    buffer = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())  # torch wants writable memory
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The image decoding and encoding capabilities of TorchVision")
        image: Tensor = decode_jpeg(buffer, ImageReadMode.RGB, apply_exif_orientation=True)  # type: ignore[assignment]
    return image


def _any_format(data: bytes, max_pixels: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transparency in palettes, odd metadata: none of them changes pixels
        return _rgb(open_image(data, max_pixels), max_pixels)


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The header of an image file; formats that run other programs or hold no pixels are not opened."""
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with _lock:  # Pillow has a limit of its own, for the whole process
        own = Image.MAX_IMAGE_PIXELS
        try:
            if own is not None and 2 * own < max_pixels and max_pixels != MAX_PIXELS:
                Image.MAX_IMAGE_PIXELS = max_pixels
            return Image.open(io.BytesIO(data), formats=formats)
        except Image.DecompressionBombError as error:
            pixels = re.search(r"\d+", str(error))
            if pixels is None or int(pixels[0]) <= max_pixels:  # somebody gave Pillow a lower limit
                raise
            raise _Size(f"{int(pixels[0]):,} pixels") from None
        finally:
            Image.MAX_IMAGE_PIXELS = own


def _rgb(image: Image.Image, max_pixels: int) -> Tensor:
    _require_size(*image.size, max_pixels)
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bit(np.asarray(image), deep=image.mode.startswith("I;16")))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _eight_bit(values: np.ndarray, *, deep: bool) -> np.ndarray:
    """Scale values to 8 bits; Pillow would clip 16-bit values at 255, and floats in [0, 1] would all be dark."""
    values = values.astype(np.float64)
    if deep or values.max() > 255:
        values = values // 256
    elif values.max() <= 1:
        values = values * 255
    return values.clip(0, 255).astype(np.uint8)
