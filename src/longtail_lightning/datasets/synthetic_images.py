"""The images of the embedded data set, drawn on the fly."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, ClassCountsLike
from longtail_lightning.datasets.array_images import ArrayImages

SIZE = 32
_MEMBERS = 5
_MOST = 10_000_000  # of 3 kB each
_SPLITS = {"train": 0, "val": 1, "test": 2}


class SyntheticImages(Dataset[tuple[Tensor, int]]):
    """Drawn images; item i is a function of (seed, split, class of i, number within the class) alone.

    Args:
        counts: images per class, class-major order.
        split: `"train"`, `"val"` or `"test"`: different images.
        seed: another seed, other images of the same classes.

    Examples:
        >>> image, label = SyntheticImages([2, 1])[2]
        >>> tuple(image.shape), image.dtype, label
        ((3, 32, 32), torch.uint8, 1)
    """

    def __init__(
        self, counts: ClassCountsLike, *, split: Literal["train", "val", "test"] = "train", seed: int = 0
    ) -> None:
        self.counts = ClassCounts(counts)
        if self.counts.total > _MOST:
            raise LongTailError(
                f"{self.counts.total:,} drawn images would fill the memory: make at most {_MOST:,}, with fewer classes "
                "or fewer images of each."
            )
        self.labels: Sequence[int] = [c for c, count in enumerate(self.counts) for _ in range(count)]
        self._number = [number for count in self.counts for number in range(count)]
        self._key = (seed, _SPLITS[split])
        self._families = _num_families(self.counts.num_classes)
        self._drawn = torch.zeros(len(self.labels), dtype=torch.bool)
        self._images = torch.empty(len(self.labels), 3, SIZE, SIZE, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch([index])
        return images[0], int(labels[0])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images and labels of many items at once."""
        for index in indices:
            if not self._drawn[index]:
                label = self.labels[index]
                rng = np.random.default_rng([*self._key, label, self._number[index]])
                pixels = draw(rng, label % self._families, _look(label, self._families))
                self._images[index] = torch.from_numpy(pixels).permute(2, 0, 1)
                self._drawn[index] = True
        where = torch.as_tensor(indices, dtype=torch.int64)
        return self._images.index_select(0, where), torch.tensor([self.labels[index] for index in indices])

    def to(self, device: torch.device | str) -> ArrayImages:
        """All images, drawn, on a device."""
        return ArrayImages(*self.batch(range(len(self)))).to(device)


def class_names(num_classes: int) -> list[str]:
    """Names such as `'star-5 green'`: the family's shape and the member's color."""
    colors = ("red", "yellow", "green", "blue", "purple")
    families = _num_families(num_classes)
    return [f"{_shape(c % families)[0]} {colors[_look(c, families)]}" for c in range(num_classes)]


def draw(rng: np.random.Generator, family: int, look: int) -> np.ndarray:
    """One image, uint8 (32, 32, 3): clutter, then the family's shape in the member's color and stripes."""
    canvas = 2 * SIZE
    image = Image.new("RGB", (canvas, canvas), _color(rng.random(), 0.4 * rng.random(), rng.uniform(0.2, 0.7)))
    painter = ImageDraw.Draw(image)
    for _ in range(2):
        x, y = rng.uniform(0, canvas, 2)
        width, height = rng.uniform(4, 22, 2)
        fill = _color(rng.random(), rng.random(), rng.uniform(0.2, 0.9))
        painter.ellipse((x - width, y - height, x + width, y + height), fill=fill)

    mask = Image.new("L", (canvas, canvas), 0)
    ImageDraw.Draw(mask).polygon(_outline(rng, family, canvas), fill=255)
    image.paste(_stripes(rng, look, canvas), mask=mask)
    pixels = np.asarray(image.reduce(2), dtype=np.float64)
    pixels = pixels * rng.uniform(0.75, 1.2) + rng.normal(0, 10, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


def _num_families(num_classes: int) -> int:
    return max(1, math.ceil(num_classes / _MEMBERS))


def _look(label: int, families: int) -> int:
    """Color and stripes of a class: each occurs from head to tail, in another family each time."""
    return (label // families + label % families) % _MEMBERS


def _shape(family: int) -> tuple[str, int, float, float]:
    """Name, number of corners, depth and sharpness of a family's outline."""
    name, depth, second = (("fan", 0.16, 0.0), ("star", 0.42, 0.12), ("gear", 0.28, -0.16))[family // 5 % 3]
    corners = 3 + family % 5 + 5 * (family // 15)
    return f"{name}-{corners}", corners, depth, second


def _outline(rng: np.random.Generator, family: int, canvas: int) -> list[tuple[float, float]]:
    _, corners, depth, second = _shape(family)
    angle = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    radius = 1 + depth * np.cos(corners * angle) + second * np.cos(2 * corners * angle)
    radius *= canvas * rng.uniform(0.3, 0.42) / (1 + depth)
    turned = angle + rng.uniform(0, 2 * math.pi)
    x, y = canvas / 2 + rng.uniform(-0.1, 0.1, 2) * canvas
    return list(zip((x + radius * np.cos(turned)).tolist(), (y + radius * np.sin(turned)).tolist()))


def _stripes(rng: np.random.Generator, look: int, canvas: int) -> Image.Image:
    # Hue and stripe width both tell the look, each with noise: neighbors overlap a little.
    hue = (look + rng.normal(0, 0.25)) / _MEMBERS
    period = canvas / (3.0 + 1.5 * look + rng.normal(0, 0.6))
    angle = rng.uniform(0, math.pi)
    grid = np.arange(canvas, dtype=np.float32)
    wave = np.sin(2 * math.pi / period * (grid[:, None] * math.sin(angle) + grid * math.cos(angle)))
    value = rng.uniform(0.65, 0.95)
    bright, dark = (np.array(_color(hue, 0.75, v), dtype=np.float32) for v in (value, 0.6 * value))
    return Image.fromarray(np.where(wave[..., None] > 0, bright, dark).astype(np.uint8))


def _color(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)
