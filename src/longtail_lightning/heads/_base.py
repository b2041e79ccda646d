"""What every head shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from longtail_lightning._number_range import require_whole


@runtime_checkable
class EditableHead(Protocol):
    """A head that takes new classes, and lets old ones go, without any training."""

    num_classes: int

    def add_classes(self, features: Sequence[Tensor]) -> None:
        """Append classes.

        Args:
            features: those of each new class, `(n, num_features)`.
        """

    def remove_classes(self, indices: Sequence[int]) -> None:
        """Take classes out; the others keep their order.

        Args:
            indices: numbers of the classes.
        """


class Head(nn.Module, ABC):
    """Base of all heads: features `(batch, num_features)` to logits `(batch, num_classes)`.

    Any head fits on any backbone: `model.head = CosineHead(model.backbone.num_features, 100)`.

    Args:
        num_features: width of the features.
        num_classes: number of logits.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        require_whole(self, "num_features", num_features, 1)
        require_whole(self, "num_classes", num_classes, 1)
        self.num_features = num_features
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, num_classes={self.num_classes}"
