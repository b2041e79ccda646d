"""Which classes stay when some are taken out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError


def kept_rows(number: int, removed: Sequence[int]) -> Tensor:
    """Numbers of the classes that stay; refuse to remove all of them, or one that is not there.

    Args:
        number: how many classes there are.
        removed: numbers of those to take out.
    """
    if wrong := [index for index in removed if not 0 <= index < number]:
        raise LongTailError(f"There is no class {wrong[0]}: the head has {number}, from 0 to {number - 1}.")
    kept = [index for index in range(number) if index not in set(removed)]
    if not kept:
        raise LongTailError("These are all classes: a classifier needs at least one.")
    return torch.tensor(kept)
