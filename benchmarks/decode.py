"""Images per second from JPEG files to normalized training batches, on two loading processes.

    python benchmarks/decode.py

Ours (ImageList, ResizedCropTransforms, the loader of LongTailDataModule, normalized after batching)
against torchvision's ImageFolder with Pillow and the usual four transforms, in turns on the same files,
which are drawn into a temporary folder. Before that, both give the same pixels within 1/255.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _photos import HEIGHT, QUALITY, WIDTH, photo_tree
from _record import record
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from longtail_lightning.data import ImageList, LongTailDataModule, ResizedCropTransforms
from longtail_lightning.datasets.image_transforms import IMAGENET

IMAGES, BATCH, WORKERS, ROUNDS, SEED = 768, 64, 2, 9, 0


class Photos(LongTailDataModule):
    """The folder, through the library."""

    def __init__(self, folder: ImageFolder) -> None:
        super().__init__(transforms=ResizedCropTransforms(), batch_size=BATCH, num_workers=WORKERS, seed=SEED)
        self.folder = folder

    def build(self, split: str) -> Dataset[Any]:
        files, labels = zip(*self.folder.samples)
        return ImageList(files, labels)


def main() -> None:
    """A B A B, medians."""
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as root:
        size = photo_tree(Path(root), IMAGES)
        folder = ImageFolder(root)
        largest = largest_difference(folder)
        print(f"largest difference of a pixel: {largest * 255:.3f} / 255", flush=True)
        assert largest <= 1.0001 / 255
        data = Photos(folder)
        ours, theirs = epochs(data.train_dataloader(), data), epochs(pillow_loader(root), None)
        next(ours), next(theirs)  # start the processes, read the files once
        rates: dict[str, list[float]] = {"ours": [], "torchvision_pillow": []}
        for _ in range(ROUNDS):
            for name, run in (("ours", ours), ("torchvision_pillow", theirs)):
                rates[name].append(next(run))
            print(
                f"ours {rates['ours'][-1]:.0f}, torchvision {rates['torchvision_pillow'][-1]:.0f} images/s", flush=True
            )
    ratios = sorted(a / b for a, b in zip(rates["ours"], rates["torchvision_pillow"]))
    record(
        "decode_cpu",
        {
            "what": f"{IMAGES} JPEGs of {WIDTH}x{HEIGHT}, quality {QUALITY}, {size // IMAGES} bytes each: decode, "
            f"RandomResizedCrop(224), flip, normalize; batch {BATCH}, {WORKERS} workers",
            "ours_images_per_s": round(median(rates["ours"]), 1),
            "torchvision_pillow_images_per_s": round(median(rates["torchvision_pillow"]), 1),
            "ratio": round(median(ratios), 3),
            "ratio_range": [round(ratios[0], 3), round(ratios[-1], 3)],
            "limit": 1.5,
            "largest_pixel_difference_of_255": round(255 * largest, 3),
            "rounds": ROUNDS,
            "cores": os.cpu_count(),
            "load_before": round(load, 1),
        },
        seed=SEED,
    )


def pillow_transforms(*more: Any) -> T.Compose:
    """The lines that everybody writes."""
    return T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), *more])


def pillow_loader(root: str) -> DataLoader[Any]:
    """ImageFolder with Pillow in a DataLoader."""
    dataset = ImageFolder(root, pillow_transforms(T.Normalize(*IMAGENET)))
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def epochs(loader: DataLoader[Any], data: LongTailDataModule | None) -> Iterator[float]:
    """Images per second of one epoch after the other."""
    for epoch in range(ROUNDS + 1):
        getattr(loader.sampler, "set_epoch", int)(epoch)
        start, seen = time.perf_counter(), 0
        for batch in loader:
            images = data.on_after_batch_transfer(batch, 0)[0] if data is not None else batch[0]
            seen += len(images)
        yield seen / (time.perf_counter() - start)


def largest_difference(folder: ImageFolder) -> float:
    """Between both ways to the same crops, before normalization."""
    files, labels = zip(*folder.samples)
    images, ours, theirs = ImageList(files, labels), ResizedCropTransforms().train, pillow_transforms()
    assert ours is not None

    def seeded(transform: Callable[[Any], Tensor], image: Any, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return transform(image)

    return max(
        float((seeded(ours, images[i][0], i) / 255 - seeded(theirs, folder[i][0], i)).abs().max()) for i in range(64)
    )


if __name__ == "__main__":
    main()
