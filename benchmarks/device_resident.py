"""Augmented CIFAR-size batches per second: torchvision's way, our loader, and images that live on the device.

python benchmarks/device_resident.py
python benchmarks/device_resident.py --device cuda
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from _record import record
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from longtail_lightning import ArrayLT
from longtail_lightning.datasets.presets import CIFAR10

IMAGES, BATCH, ROUNDS, WORKERS = 12_800, 128, 9, 2


class Pictures(Dataset[Any]):
    """What torchvision's CIFAR10 does: an array of pixels, one PIL image per item."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(*CIFAR10),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def main() -> None:
    """Take turns, one epoch each; medians of the images per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    torch.set_num_threads(1)  # as in the loading processes: two threads that share a busy core wait for each other
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (IMAGES, 32, 32, 3)).astype(np.uint8)
    labels = np.repeat(np.arange(10), IMAGES // 10)
    ways = {
        f"a: torchvision, PIL, {WORKERS} workers": torchvision_way(pixels, labels, device),
        f"b: ArrayLT, {WORKERS} workers": our_way(pixels, labels, device, num_workers=WORKERS),
        "c: ArrayLT, 0 workers": our_way(pixels, labels, device),
        "d: ArrayLT, device_resident": our_way(pixels, labels, device, device_resident=True),
        "e: augmentation alone": augmentation(pixels, labels, device),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(ROUNDS + 1):
        for name, epoch in ways.items():
            speed = images_per_second(epoch(), device)
            if round_number:  # the first round starts workers and fills caches
                speeds[name].append(speed)
        print({name: round(values[-1]) for name, values in speeds.items() if values}, flush=True)
    first = next(iter(speeds))
    record(
        f"device_resident_{'cpu' if device.type == 'cpu' else 'gpu'}",
        {
            "batch_size": BATCH,
            "images": f"{IMAGES} of 3x32x32",
            "augmentation": "crop of padding 4, mirror, scale, normalize",
            "rounds": ROUNDS,
            "load_average": [round(load, 1) for load in os.getloadavg()[:2]],  # other work on the machine included
            "images_per_s": {name: round(statistics.median(values)) for name, values in speeds.items()},
            "times_a": {
                name: round(statistics.median(ours / theirs for ours, theirs in zip(values, speeds[first])), 2)
                for name, values in speeds.items()
            },
            "wanted": {"d over a on the CPU": 3.0, "augmentation alone on an H200, images/s": 200_000},
        },
        seed=0,
    )


def images_per_second(batches: Iterator[torch.Tensor], device: torch.device) -> float:
    """One epoch, to the end of the last kernel."""
    start, count = time.perf_counter(), 0
    for images in batches:
        count += len(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - start)


Way = Callable[[], Iterator[torch.Tensor]]


def torchvision_way(pixels: np.ndarray, labels: np.ndarray, device: torch.device) -> Way:
    """A DataLoader of PIL images."""
    loader = DataLoader(
        Pictures(pixels, labels), batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True,
        pin_memory=device.type == "cuda",
    )  # fmt: skip

    def epoch() -> Iterator[torch.Tensor]:
        for images, _ in loader:
            yield images.to(device, non_blocking=True)

    return epoch


def our_way(pixels: np.ndarray, labels: np.ndarray, device: torch.device, **options: Any) -> Way:
    """The data module as the Trainer asks it: a batch of its loader, moved, augmented and normalized."""
    data = module(pixels, labels, device, **options)
    loader = data.train_dataloader()

    def epoch() -> Iterator[torch.Tensor]:
        for images, _, items in loader:
            images = images.to(device, non_blocking=True)
            yield data.prepare_batch(images, items=items, augment=True)

    return epoch


def augmentation(pixels: np.ndarray, labels: np.ndarray, device: torch.device) -> Way:
    """Without fetching: the same batch again and again."""
    data = module(pixels, labels, device, device_resident=True)
    batch, _, items = next(iter(data.train_dataloader()))

    def epoch() -> Iterator[torch.Tensor]:
        for _ in range(IMAGES // BATCH):
            yield data.prepare_batch(batch, items=items, augment=True)

    return epoch


def module(pixels: np.ndarray, labels: np.ndarray, device: torch.device, **options: Any) -> ArrayLT:
    """The data module, with a trainer on that device."""
    data = ArrayLT((pixels, labels), transforms="cifar10", batch_size=BATCH, **options)
    data.trainer = L.Trainer(
        accelerator=device.type, devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    return data


if __name__ == "__main__":
    main()
