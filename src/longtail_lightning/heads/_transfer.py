"""Knowledge transfer as attention, in blocks: no matrix of all classes by all classes is ever in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning.heads._rows import rows_with_room

_BLOCK = 2048
"""Classes at a time, on either side."""


def transfer(queries: Tensor, keys: Tensor, values: Tensor, groups: Sequence[Tensor], tau: float) -> list[Tensor]:
    r"""Directions of \(\sum_j \mathrm{softmax}_j(\tau \, q_i^\top k_j) \, v_j\), over more and more donors.

    Directions need no denominator of the softmax, so one pass over the donors serves every set of them that contains
    the one before: each group adds its sum to that of the groups before it. The largest exponent so far is taken out
    of the sum, as numbers stay finite then for any `tau`.

    Args:
        queries: `(C, F)`; their norm, and that of the others, does not matter.
        keys: `(N, F)`.
        values: `(N, F)`.
        groups: rows of keys and values, in disjoint groups; the first is not empty.
        tau: temperature that multiplies.

    Returns:
        A `(C, F)` of norm 1 for each group: over the donors of this group and of all before it.
    """
    outputs = [rows_with_room(len(queries), queries.shape[1], queries) for _ in groups]
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        query = F.normalize(queries[rows], dim=1)
        total = torch.zeros_like(query)
        largest = query.new_full((len(query), 1), -torch.inf)
        for output, group in zip(outputs, groups):
            for first in range(0, len(group), _BLOCK):
                donors = group[first : first + _BLOCK]
                key, key_norm = _with_norms(keys, donors)
                value, value_norm = (key, key_norm) if values is keys else _with_norms(values, donors)
                scores = (query @ key.T).div_(key_norm)
                new = torch.maximum(largest, scores.amax(1, keepdim=True))
                total *= (tau * (largest - new)).exp_() if tau else 1.0
                total.addmm_(scores.sub_(new).mul_(tau).exp_().div_(value_norm), value)
                largest = new
            output[rows] = F.normalize(total, dim=1)
    return outputs


def _with_norms(vectors: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    # Numbers of donors are fewer to divide than their vectors.
    chosen = vectors[rows]
    return chosen, chosen.norm(dim=1).clamp_(min=1e-12)
