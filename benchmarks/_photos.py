"""Photo-like images for the benchmarks that read files: drawn here, so that nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, QUALITY = 500, 375, 90


def photo(rng: np.random.Generator) -> Image.Image:
    """Noise of all sizes, large blobs the strongest, and some grain: about 55 kB as a JPEG of quality 90."""
    pixels = np.zeros((HEIGHT, WIDTH, 3))
    for octave in range(8):
        side = 2 ** (octave + 1) + 1
        gray = rng.normal(size=(side, side, 1))
        noise = (1.5 * gray + 0.4 * rng.normal(size=(side, side, 3))).astype(np.float32)
        layers = [Image.fromarray(noise[..., c]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC) for c in range(3)]
        pixels += np.stack([np.asarray(layer) for layer in layers], -1) / 1.7**octave
    pixels = (pixels - pixels.mean()) / pixels.std() * 55 + 120
    pixels += rng.normal(0, 5, (HEIGHT, WIDTH, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def photo_tree(root: Path, images: int, *, classes: int = 8, distinct: int = 96, seed: int = 0) -> int:
    """Write JPEG files as `root/CLASS/NAME.jpg`, with `distinct` different pictures; returns their bytes."""
    rng = np.random.default_rng(seed)
    files: list[Path] = []
    for i in range(images):
        file = root / f"class_{i % classes:03}" / f"{i:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if i < distinct:
            photo(rng).save(file, quality=QUALITY)
        else:
            # A number behind the end of the picture, so that no format stores copies once.
            file.write_bytes(files[i % distinct].read_bytes() + i.to_bytes(8, "little"))
        files.append(file)
    return sum(file.stat().st_size for file in files)
