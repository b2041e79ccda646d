"""Rows of all ranks, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks in rank order; each rank must hold the same number.

    Gradients go back to the rank that a row came from, summed over the ranks that used it. Averaged
    over the ranks, as DDP does, they are those of one process with the large batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def my_rank() -> int:
    """Rank of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
