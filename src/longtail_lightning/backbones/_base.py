"""What every backbone shares."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Base of all backbones: images `(batch, channels, height, width)` to features `(batch, num_features)`."""

    num_features: int
    """Width of the features; set by the child."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch of images."""
