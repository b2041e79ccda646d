"""The formulas of the papers, typed again from the papers: loops and exponentials, no torch loss functions.

Each takes float64 logits (batch, classes), class indices and counts, and returns one value per
sample. Slow and plain on purpose; nothing here is shared with the library.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor, counts: list[int]) -> Tensor:
    """-log p_y with p = softmax(z)."""
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    return torch.stack([-torch.log(p[i, int(y)]) for i, y in enumerate(target)])


def logit_adjusted(logits: Tensor, target: Tensor, counts: list[int], tau: float = 1.0) -> Tensor:
    """Menon et al. 2021, eq. 10: log[1 + sum over y' != y of (pi_y' / pi_y)^tau * e^(f_y' - f_y)]."""
    pi = [n / sum(counts) for n in counts]
    losses = []
    for z, y in zip(logits, target.tolist()):
        others = [(pi[j] / pi[y]) ** tau * torch.exp(z[j] - z[y]) for j in range(len(counts)) if j != y]
        losses.append(torch.log(1 + torch.stack(others).sum()))
    return torch.stack(losses)


def balanced_softmax(logits: Tensor, target: Tensor, counts: list[int]) -> Tensor:
    """Ren et al. 2020, eq. 3 and 4: -log of n_y e^(eta_y) / sum_i n_i e^(eta_i)."""
    losses = []
    for z, y in zip(logits, target.tolist()):
        weighted = [n * torch.exp(z[i]) for i, n in enumerate(counts)]
        losses.append(-torch.log(weighted[y] / torch.stack(weighted).sum()))
    return torch.stack(losses)
