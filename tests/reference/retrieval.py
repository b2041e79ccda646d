"""Retrieval-augmented classification typed again from Long et al. 2022, one image and one class at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def balanced_cross_entropy(logits: Tensor, target: Tensor, counts: list[int]) -> Tensor:
    """Eq. 2: -1 / N_y log softmax_y, the mean over the batch."""
    total = logits.new_zeros(())
    for z, y in zip(logits, target.tolist()):
        total = total - (1 / counts[y]) * (z[y] - torch.stack([v.exp() for v in z]).sum().log())
    return total / len(logits)


def weighted_adjusted(logits: Tensor, target: Tensor, counts: list[int], *, tau: float, alpha: str) -> Tensor:
    """Eq. 3 with Delta_y = log(N_y / N), and alpha of eq. 6 or 7."""
    n = sum(counts)
    total = logits.new_zeros(())
    for z, y in zip(logits, target.tolist()):
        weight = {
            "none": 1.0,
            "inverse_log": 1 / math.log(counts[y]),  # eq. 6
            "inverse_sqrt": 1 / math.sqrt(counts[y]),  # eq. 7
        }[alpha]
        adjusted = [v + tau * math.log(c / n) for v, c in zip(z, counts)]
        total = total - weight * (adjusted[y] - torch.stack([v.exp() for v in adjusted]).sum().log())
    return total / len(logits)


def fused(base: Tensor, retrieved: Tensor, scale: float) -> Tensor:
    """Eq. 5 with a scale in the place of L / 2."""
    rows = []
    for b, r in zip(base, retrieved):
        norm_b = sum(v * v for v in b) ** 0.5
        norm_r = sum(v * v for v in r) ** 0.5
        rows.append(torch.stack([scale * (vr / norm_r + vb / norm_b) for vb, vr in zip(b, r)]))
    return torch.stack(rows)


def bag_of_words(texts: list[str], vectors: dict[str, Tensor]) -> Tensor:
    """Section 4.5: the mean of the vectors of the words of all texts."""
    words = [word for text in texts for word in text.split()]
    return sum(vectors[word] for word in words) / len(words)


def nearest(query: Tensor, keys: Tensor, k: int, without: int | None) -> list[int]:
    """Section 3.4: the k keys of the largest cosine, without the query's own."""
    cosines = [(float((query * key).sum() / (query.norm() * key.norm())), -place) for place, key in enumerate(keys)]
    ranked = sorted(range(len(keys)), key=lambda place: cosines[place], reverse=True)
    return [place for place in ranked if place != without][:k]
