"""The long-tailed CIFAR of Cao et al. 2019, typed from its description: global numpy seed 0, shuffle each class."""

from __future__ import annotations

import math

import numpy as np


def class_sizes(num_classes: int, largest: float, factor: float, profile: str) -> list[int]:
    """Section 5.1: exponential decay, or a step in the middle."""
    sizes = []
    for c in range(num_classes):
        if profile == "exp":
            sizes.append(math.floor(largest * math.pow(1 / factor, c / (num_classes - 1.0))))
        else:
            sizes.append(int(largest) if c < num_classes // 2 else math.floor(largest * (1 / factor)))
    return sizes


def subset(labels: list[int], factor: float, profile: str = "exp") -> list[int]:
    """Indices in the order in which they are taken, class by class."""
    classes = sorted(set(labels))
    sizes = class_sizes(len(classes), len(labels) / len(classes), factor, profile)
    np.random.seed(0)
    taken: list[int] = []
    for c, size in zip(classes, sizes):
        members = np.array([i for i, label in enumerate(labels) if label == c])
        np.random.shuffle(members)
        for i in range(size):
            taken.append(int(members[i]))
    return taken
