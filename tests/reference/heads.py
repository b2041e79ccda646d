"""Heads typed again from the papers, one sample and one class at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Kang et al. 2020, section 4: w_c . f + b_c."""
    return torch.stack([torch.stack([(w * f).sum() + b for w, b in zip(weight, bias)]) for f in features])


def cosine(features: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Gidaris and Komodakis 2018, eq. 3: s * cos(f, w_c)."""
    rows = []
    for f in features:
        rows.append(
            torch.stack([scale * (w * f).sum() / ((w * w).sum().sqrt() * (f * f).sum().sqrt()) for w in weight])
        )
    return torch.stack(rows)


def learnable_scale(features: Tensor, weight: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    """Kang et al. 2020, eq. 4: the weights are scaled, f_c * w_c, and used as in section 4."""
    return linear(features, torch.stack([s * w for s, w in zip(scale, weight)]), bias)


def tau_normalized(features: Tensor, weight: Tensor, tau: float) -> Tensor:
    """Kang et al. 2020, eq. 3, and the sentence after it that discards the bias."""
    normalized = torch.stack([w / (w * w).sum().sqrt() ** tau for w in weight])
    return linear(features, normalized, torch.zeros(len(weight), dtype=weight.dtype))


def class_means(features: Tensor, labels: list[int], num_classes: int) -> tuple[Tensor, Tensor]:
    """The authors' cl2n: center, scale each feature to norm 1, average per class. Returns the center too."""
    center = sum(features) / len(features)
    means = []
    for c in range(num_classes):
        own = [(f - center) / ((f - center) ** 2).sum().sqrt() for f, label in zip(features, labels) if label == c]
        means.append(sum(own) / len(own))
    return center, torch.stack(means)


def nearest_class_mean(queries: Tensor, center: Tensor, means: Tensor, metric: str) -> Tensor:
    """Cosine, or negative squared Euclidean distance, between a centered query of norm 1 and each mean."""
    rows = []
    for f in queries:
        q = (f - center) / ((f - center) ** 2).sum().sqrt()
        if metric == "cosine":
            rows.append(torch.stack([(q * m).sum() / (m * m).sum().sqrt() for m in means]))
        else:
            rows.append(torch.stack([-((q - m) ** 2).sum() for m in means]))
    return torch.stack(rows)


def papers_nearest_class_mean(
    queries: Tensor, features: Tensor, labels: list[int], num_classes: int
) -> tuple[Tensor, Tensor]:
    """Kang et al. 2020, section 4, NCM: cosine similarity to the class means, or negative squared Euclidean distance
    to the class means of norm 1; of features as they are."""
    cosines, distances = [], []
    for f in queries:
        cosine, distance = [], []
        for c in range(num_classes):
            own = [x for x, label in zip(features, labels) if label == c]
            mean = sum(own) / len(own)
            unit = mean / (mean * mean).sum().sqrt()
            cosine.append((f * unit).sum() / (f * f).sum().sqrt())
            distance.append(-((f - unit) ** 2).sum())
        cosines.append(torch.stack(cosine))
        distances.append(torch.stack(distance))
    return torch.stack(cosines), torch.stack(distances)


def mlp(features: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Kang et al. 2020, appendix B.6: linear layers with ReLU between them."""
    for i, (weight, bias) in enumerate(layers):
        features = linear(features, weight, bias)
        if i < len(layers) - 1:
            features = torch.stack([torch.stack([x if x > 0 else 0 * x for x in row]) for row in features])
    return features
