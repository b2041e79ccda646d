"""Decode any image file into a uint8 tensor that shows what a person would see."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from longtail_lightning._errors import LongTailError

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision 0.29 announces this for a later release; Pillow then decodes all
    decode_jpeg = None  # type: ignore[assignment]

ImageSource = str | Path | bytes


class UnreadableImageError(LongTailError):
    """An image file that is missing, empty, truncated or no image at all."""


def decode_image(source: ImageSource | Image.Image) -> Tensor:
    """Read an image as uint8 RGB, `(3, height, width)`.

    Grayscale, palette, CMYK and 16-bit images become 8-bit RGB, EXIF rotation is applied, an
    animation gives its first frame, transparency is dropped. JPEG goes through torchvision, which
    decodes to the same pixels as Pillow without the way through a PIL image.

    Args:
        source: a path, the bytes of a file, or a PIL image.

    Examples:
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2), 255).save(file, "PNG")
        >>> decode_image(file.getvalue()).shape
        torch.Size([3, 2, 4])
    """
    where = str(source) if isinstance(source, (str, Path)) else "The image"
    data = _read(source) if isinstance(source, (str, Path)) else source
    if not data:
        raise UnreadableImageError(f"{where} is empty (0 bytes).")
    try:
        if isinstance(data, Image.Image):
            return _rgb(data)
        if data[:2] == b"\xff\xd8" and decode_jpeg is not None:
            return _jpeg(data)
        return _any_format(data)
    except Exception as error:  # Pillow and torchvision raise a dozen types for broken files
        reason = str(error).rpartition(": ")[2].split("\n")[0] or type(error).__name__
        reason = re.sub(r"^\w+, \S+\.cpp:\d+, ", "", reason)  # torchvision's own source
        if "cannot identify" in str(error):
            reason = "no known image format"
        raise UnreadableImageError(f"{where} cannot be decoded ({reason}).") from error


def _read(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be read ({error.strerror}).") from error


def _jpeg(data: bytes) -> Tensor:
    buffer = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())  # torch wants writable memory
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The image decoding and encoding capabilities of TorchVision")
        image: Tensor = decode_jpeg(buffer, ImageReadMode.RGB, apply_exif_orientation=True)  # type: ignore[assignment]
    return image


def _any_format(data: bytes) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transparency in palettes, odd metadata: none of them changes pixels
        return _rgb(Image.open(io.BytesIO(data)))


def _rgb(image: Image.Image) -> Tensor:
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
