"""Goswami et al. 2023, section 3, typed again: one class and one sample at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def transformed(feature: Tensor, exponent: float) -> Tensor:
    """Tukey's ladder of powers, then norm 1."""
    power = torch.stack([value**exponent if value > 0 else -((-value) ** exponent) for value in feature])
    return power / (power * power).sum() ** 0.5


def mean_of(samples: list[Tensor]) -> Tensor:
    return sum(samples) / len(samples)


def scatter(samples: list[Tensor]) -> Tensor:
    mean = mean_of(samples)
    return sum(torch.outer(x - mean, x - mean) for x in samples)


def within_classes(classes: list[list[Tensor]]) -> Tensor:
    """The common covariance: each class around its own mean."""
    return sum(scatter(samples) for samples in classes) / sum(len(samples) - 1 for samples in classes)


def shrunk(covariance: Tensor, gamma1: float, gamma2: float) -> Tensor:
    size = len(covariance)
    diagonal = [covariance[i, i] for i in range(size)]
    others = [covariance[i, j] for i in range(size) for j in range(size) if i != j]
    v1, v2 = sum(diagonal) / len(diagonal), sum(others) / len(others)
    made = covariance.clone()
    for i in range(size):
        for j in range(size):
            made[i, j] = covariance[i, j] + (gamma1 * v1 if i == j else gamma2 * v2)
    return made


def correlation(covariance: Tensor) -> Tensor:
    made = covariance.clone()
    for i in range(len(made)):
        for j in range(len(made)):
            made[i, j] = covariance[i, j] / (covariance[i, i] ** 0.5 * covariance[j, j] ** 0.5)
    return made


def logit(x: Tensor, samples: list[Tensor], common: Tensor, gamma1: float, gamma2: float, pooled: float) -> Tensor:
    """Minus the squared Mahalanobis distance to a class."""
    freedom = len(samples) - 1
    own = scatter(samples) / freedom if freedom else torch.zeros_like(common)
    covariance = (freedom * own + pooled * common) / (freedom + pooled) if freedom + pooled else common
    inverse = torch.linalg.inv(correlation(shrunk(covariance, gamma1, gamma2)))
    difference = x - mean_of(samples)
    return -(difference @ inverse @ difference)
