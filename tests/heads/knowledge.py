"""A small long-tailed bank and its trained classifier, for tests of knowledge transfer."""

from __future__ import annotations

from types import SimpleNamespace

import torch

COUNTS = [60, 45, 30, 21, 20, 6, 2]
WIDTH = 5


def bank(counts=COUNTS, width=WIDTH, seed=0):
    """As many features per class as it has images, around a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = [c for c, n in enumerate(counts) for _ in range(n)]
    means = torch.randn(len(counts), width, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    features = means[labels] + 0.5 * noise
    order = torch.randperm(len(labels), generator=generator)
    return SimpleNamespace(features=features[order], labels=torch.tensor(labels)[order])


def weight(num_classes=7, width=WIDTH, seed=1):
    return torch.randn(num_classes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def queries(number=4, width=WIDTH):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(number, width, generator=generator, dtype=torch.float64, requires_grad=True)
