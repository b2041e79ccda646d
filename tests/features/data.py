"""Encoders and data small enough for many extractions."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from longtail_lightning import CIFARResNet

NUMBER = 41


def encoder(seed=0):
    """A ResNet-8 of width 4 with batch statistics that differ from the initial ones."""
    torch.manual_seed(seed)
    module = CIFARResNet(8, width=4)
    module(torch.randn(16, 3, 16, 16))
    return module


def images(number=NUMBER, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(number, 3, 16, 16, generator=generator), torch.arange(number).remainder(5).sort().values
    )


def loader(batch_size=4, **options):
    return DataLoader(images(), batch_size=batch_size, **options)


class Noisy(Dataset):
    """Random augmentation inside the data set, and ids."""

    def __init__(self):
        self.plain = images()
        self.ids = [f"{index}.jpg" for index in range(NUMBER)]

    def __len__(self):
        return NUMBER

    def __getitem__(self, index):
        image, label = self.plain[index]
        return image + 0.1 * torch.randn(image.shape), label


class Slow(nn.Module):
    """Gives a process that kills the time to do so."""

    def __init__(self, inner, seconds=0.0):
        super().__init__()
        self.inner = inner
        self.seconds = seconds

    def forward(self, images):
        time.sleep(self.seconds)
        return self.inner(images)


class Stops(nn.Module):
    """Raises after so many batches; counts the images that it saw."""

    def __init__(self, inner, error=None, after=0):
        super().__init__()
        self.inner = inner
        self.error, self.left, self.seen = error, after, 0

    def forward(self, images):
        if self.error is not None and self.left == 0:
            raise self.error
        self.left -= 1
        self.seen += len(images)
        return self.inner(images)
