"""The options that all data modules share, for the signatures of those that pass them on.

`LongTailDataModule` documents what they mean and their defaults. A data module that has a default of its
own names the option itself, and takes the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypedDict

from longtail_lightning.datasets.long_tail import Draw, Profile
from longtail_lightning.samplers import LongTailSampler

SamplerCallable = Callable[[Any], LongTailSampler]


class BatchOptions(TypedDict, total=False):
    """How batches are made."""

    num_workers: int
    sampler: SamplerCallable | None
    on_error: Literal["raise", "skip"]
    device_resident: bool
    seed: int
    mixup_alpha: float
    cutmix_alpha: float
    with_index: bool


class SubsetOptions(BatchOptions, total=False):
    """Which part of the training set is used."""

    batch_size: int
    profile: Profile
    max_count: int | None
    subset_draw: Draw
    subset_seed: int


class DataOptions(SubsetOptions, total=False):
    """All shared options; `transforms` is not shared, as each data module declares its own."""

    val_split: float
    imbalance_factor: float | None
