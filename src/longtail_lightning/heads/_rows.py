"""Matrices with a row per class that grow often: new rows do not copy the old ones each time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rows_with_room(rows: int, width: int, like: Tensor | None = None) -> Tensor:
    """Zeros `(rows, width)`, with memory behind them that nobody has touched.

    Args:
        rows: number of rows.
        width: of a row.
        like: what device and type they have.
    """
    size = (rows + rows // 16 + 8, width)
    # Tensors that are made in inference mode could not be changed later.
    with torch.inference_mode(False), torch.no_grad():
        return _first(torch.zeros(size) if like is None else like.new_zeros(size), rows)


def append(rows: Tensor, new: Tensor) -> Tensor:
    """What `torch.cat` gives; the memory behind the rows is used, if there is some.

    The room goes over to the result: the rows given stay as they are, and appending to them once more makes a copy.

    Args:
        rows: `(N, F)`.
        new: `(n, F)`.
    """
    size = len(rows) + len(new)
    with torch.inference_mode(False), torch.no_grad():
        full = rows.__dict__.pop("room", None)
        if full is None or len(full) < size:
            full = rows_with_room(size, rows.shape[1], rows).__dict__["room"]
            full[: len(rows)] = rows
        full[len(rows) : size] = new
        return _first(full, size)


def give_room_back(module: nn.Module) -> None:
    """Make the buffers of a module as large as they are, for files: whoever saves a part of a matrix saves all of it.

    Args:
        module: whose own buffers are meant.
    """
    for name, value in module.named_buffers(recurse=False):
        if "room" in value.__dict__:
            with torch.inference_mode(False), torch.no_grad():
                setattr(module, name, value.clone())


def _first(full: Tensor, rows: int) -> Tensor:
    part = full[:rows]
    part.__dict__["room"] = full
    return part
