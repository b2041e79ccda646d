"""Prepare pictures of any kind for a trained model: files, folders, PIL images, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.batch_pipeline import BatchPipeline
from longtail_lightning.datasets.decode import UnreadableImageError, decode_image, renamed
from longtail_lightning.datasets.image_list import IMAGE_SUFFIXES
from longtail_lightning.datasets.image_transforms import ImageTransforms, ResizedCropTransforms
from longtail_lightning.datasets.shorter_side import ResizeShorterSide


@dataclass(frozen=True)
class Picture:
    """One picture, ready for the model, or why it is not.

    Args:
        file: where it came from; None for one from memory.
        image: `(channels, height, width)`, or `(crops, channels, height, width)`; None when it cannot be read.
        error: why not.
    """

    file: str | None
    image: Tensor | None = None
    error: str | None = None


class Preparation:
    """What evaluation did to images in training, from the card of a checkpoint.

    Args:
        described: `input` of the card: `shape` of an image, `resize`, `crop`, `crops`, `interpolation`, `mean`, `std`.
    """

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.channels, *self.size = described["shape"]
        self.batches = BatchPipeline(mean=described["mean"], std=described["std"])
        mode = InterpolationMode(described["interpolation"])
        self.transforms: ImageTransforms | None = None
        if described["crop"] is not None:
            self.transforms = ResizedCropTransforms(
                image_size=described["crop"],
                resize=described["resize"],
                crops=described["crops"],
                interpolation=described["interpolation"],
            )
        # The images of the training set all had this size; pictures of another size are resized and cropped to it.
        self.fit = v2.Compose([ResizeShorterSide(max(self.size), mode), v2.CenterCrop(self.size)])

    def __call__(self, image: Tensor) -> Tensor:
        """Turn uint8 `(channels, height, width)`, gray, RGB or RGBA, into what the model takes."""
        if image.shape[0] == 4 and self.channels in (1, 3):
            image = image[:3]  # without transparency, as of a file
        if self.channels == 1 and image.shape[0] == 3:
            image = v2.functional.rgb_to_grayscale(image)
        if self.channels == 3 and image.shape[0] == 1:
            image = image.expand(3, -1, -1)
        if image.shape[0] != self.channels:
            raise UnreadableImageError(f"it has {image.shape[0]} channels, the model was trained on {self.channels}")
        if self.transforms is not None and self.transforms.evaluate is not None:
            image = self.transforms.evaluate(image)
        elif list(image.shape[-2:]) != self.size:
            image = self.fit(image)
        return self.batches.normalize(image)


def find_pictures(inputs: Any) -> list[Any]:
    """List the pictures in what a user gives: a file, a folder with its subfolders, one image, or many of them.

    Examples:
        >>> len(find_pictures(np.zeros((5, 32, 32, 3), dtype=np.uint8)))
        5
    """
    if isinstance(inputs, (str, Path)):
        path = Path(inputs).expanduser()
        if not path.is_dir():
            return [path]
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not found:
            raise LongTailError(f"{path} holds no image: give another folder, or files.")
        return list(found)
    if isinstance(inputs, Image.Image) or (isinstance(inputs, (np.ndarray, Tensor)) and inputs.ndim == 3):
        return [inputs]
    if isinstance(inputs, (np.ndarray, Tensor)) and inputs.ndim not in (2, 4):
        raise LongTailError(f"An array of pictures has 3 or 4 dimensions, got shape {tuple(inputs.shape)}.")
    if not isinstance(inputs, Iterable):
        raise LongTailError(f"Pictures are files, folders, PIL images or arrays, not {type(inputs).__name__}.")
    return [picture for item in inputs for picture in _one_or_folder(item)]


def _one_or_folder(item: Any) -> list[Any]:
    return find_pictures(item) if isinstance(item, (str, Path)) else [item]


def read_pictures(pictures: Sequence[Any], prepare: Preparation, *, threads: int = 8) -> Iterator[Picture]:
    """Pictures in order, read ahead by some threads; one that cannot be read says why.

    Args:
        pictures: as `find_pictures` gives them.
        prepare: what is done to each.
        threads: how many are read at once.
    """
    with ThreadPoolExecutor(threads) as pool:
        # A few chunks at a time: all at once would fill the memory with images that nobody has asked for yet.
        for start in range(0, len(pictures), 16 * threads):
            yield from pool.map(lambda item: _read(item, prepare), pictures[start : start + 16 * threads])


def _read(item: Any, prepare: Preparation) -> Picture:
    file = str(item) if isinstance(item, (str, Path)) else None
    try:
        return Picture(file, prepare(_pixels(item, prepare.channels)))
    except UnreadableImageError as error:
        return Picture(file, error=str(renamed(error, file or "The image")))


def _pixels(item: Any, channels: int) -> Tensor:
    """Uint8 `(channels, height, width)`."""
    if isinstance(item, (str, Path, Image.Image)):
        return decode_image(item)
    if not isinstance(item, (np.ndarray, Tensor)) or item.ndim != 3:
        raise LongTailError(
            f"A picture is a file, a PIL image or an array of 3 dimensions, not {type(item).__name__}"
            f"{f' of shape {tuple(item.shape)}' if hasattr(item, 'shape') else ''}."
        )
    if str(item.dtype).removeprefix("torch.") != "uint8":
        raise LongTailError(
            f"Arrays of pictures are uint8 with values from 0 to 255, got {item.dtype}: convert them first."
        )
    if 0 in item.shape:
        raise UnreadableImageError(f"it has no pixels, its shape is {tuple(item.shape)}")
    # A copy: torch takes no array that runs backwards, as one from BGR to RGB does, or that is read-only.
    pixels = torch.from_numpy(item.copy()) if isinstance(item, np.ndarray) else item
    # PIL and numpy have the channels last, torch has them first.
    kinds = (1, 3, 4, channels)
    return pixels.permute(2, 0, 1) if pixels.shape[-1] in kinds and pixels.shape[0] not in kinds else pixels
