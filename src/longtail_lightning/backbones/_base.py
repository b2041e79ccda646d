"""What every backbone shares."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from longtail_lightning.backbones.weights import LoadedWeights, load_weights


class Backbone(nn.Module, ABC):
    """Base of all backbones: images `(batch, channels, height, width)` to features `(batch, num_features)`."""

    num_features: int
    """Width of the features; set by the child."""
    start_only: ClassVar[Mapping[str, Any]] = {"pretrained": False, "weights": None}
    """Arguments that say where a run starts, and what checkpoints hold in their place: the weights are in there."""
    loaded: LoadedWeights | None = None
    """What was read from the file that `weights` names."""

    def _load(self, weights: str | Path | None) -> None:
        """Read weights from a file, when one is given; the last thing that a child's `__init__` does."""
        self.weights = weights
        if weights is None:
            return
        self.loaded = load_weights(self, weights)
        if self.loaded.missing:
            warnings.warn(f"Not all weights were there. {self.loaded.summary()}", stacklevel=4)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch of images."""
