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
        rows.append(torch.stack([scale * (w * f).sum() / ((w * w).sum().sqrt() * (f * f).sum().sqrt()) for w in weight]))
    return torch.stack(rows)
