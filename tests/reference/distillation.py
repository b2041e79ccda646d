"""Class-balanced distillation typed again from Iscen et al. 2021, one image at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """l(sigma(z), y) of one image; y may be a distribution."""
    total = torch.stack([z.exp() for z in logits]).sum()
    return -sum(p * (z - total.log()) for z, p in zip(logits, probabilities))


def one_hot(label: int, logits: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(z) if c == label else torch.zeros_like(z) for c, z in enumerate(logits)])


def cosine_distance(v: Tensor, x: Tensor) -> Tensor:
    """l_F = 1 - cos(v, x)."""
    dot = sum(a * b for a, b in zip(v, x))
    return 1 - dot / (sum(a * a for a in v) ** 0.5 * sum(b * b for b in x) ** 0.5)


def unit(v: Tensor) -> Tensor:
    return v / sum(a * a for a in v) ** 0.5


def eq_2(v: Tensor, z: Tensor, y: list[int], teacher: Tensor, *, alpha: float, beta: float) -> Tensor:
    """The mean over the batch, where the paper has the sum."""
    terms = [
        (1 - alpha) * cross_entropy(z[i], one_hot(y[i], z[i])) + alpha * (beta * cosine_distance(v[i], teacher[i]))
        for i in range(len(z))
    ]
    return sum(terms) / len(terms)


def eq_3(z: Tensor, y: list[int], teacher: Tensor, *, alpha: float, temperature: float) -> Tensor:
    terms = []
    for i in range(len(z)):
        soft = torch.stack([(t / temperature).exp() for t in teacher[i]])
        soft = soft / soft.sum()
        told = temperature**2 * cross_entropy(z[i] / temperature, soft)
        terms.append((1 - alpha) * cross_entropy(z[i], one_hot(y[i], z[i])) + alpha * told)
    return sum(terms) / len(terms)


def eq_4(hv: Tensor, z: Tensor, y: list[int], teachers: list[Tensor], *, alpha: float, beta: float) -> Tensor:
    """V-hat concatenates the descriptors of the teachers, which section 3.1 normalizes."""
    wide = torch.stack([torch.cat([unit(t[i]) for t in teachers]) for i in range(len(z))])
    return eq_2(hv, z, y, wide, alpha=alpha, beta=beta)
