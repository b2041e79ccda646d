"""The settings of an extraction, as one value."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.features._encoding import autocast_type

_DTYPES = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Extraction:
    """Settings of an extraction, checked when they are made; the keyword arguments of `extract_features`.

    Args:
        views: how often to see each input, as in training and augmented differently each time if more than once.
        augment: whether to transform inputs as in training; by default with several views only.
        dtype: type of the features that are kept: `float16` (values up to 65504), `float32` or `float64`.
        batch_size: inputs at a time; by default that of the source.
        num_workers: processes that load inputs; by default that of the source.
        device: where to run the encoder; by default where it is, or else a GPU.
        precision: `"bf16"` or `"16"` for autocast; full precision by default.
        shard_size: inputs per shard, rounded up to whole batches; by default a 64th of the split, and
            8192 at most.
        overwrite: delete a bank or a part of one that is in the folder.
        progress: show a progress bar, on the first process alone.

    Examples:
        >>> Extraction(views=10).augmented, Extraction().augmented
        (True, False)
    """

    views: int = 1
    augment: bool | None = None
    dtype: torch.dtype = torch.float16
    batch_size: int | None = None
    num_workers: int | None = None
    device: torch.device | str = "auto"
    precision: str | None = None
    shard_size: int | None = None
    overwrite: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("views", "batch_size", "shard_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LongTailError(f"{name}={value} must be at least 1.")
        if self.views > 1 and self.augment is False:
            raise LongTailError(
                f"views={self.views} without augmentation are all the same: leave out augment=False, or views."
            )
        if self.dtype not in _DTYPES:
            raise LongTailError(
                f"Features are kept as float16, float32 or float64, not as {self.dtype}: npy files know no other, and "
                "precision='bf16' runs the encoder in bfloat16."
            )
        autocast_type(self.precision)

    @property
    def augmented(self) -> bool:
        """Whether inputs are transformed as in training."""
        return self.views > 1 if self.augment is None else self.augment
