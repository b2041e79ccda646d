"""What every method shares: from a trained classifier and banks of features to a balanced classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from longtail_lightning.features import FeatureBank

Device = torch.device | str
GIVE_VALIDATION = "pass a loader of some to fit, or hold some out with a data module's val_split=0.1"


@dataclass(frozen=True, eq=False)
class Retrained:
    """What a method gives.

    Args:
        head: the new head.
        label: what a table calls it.
        details: plain values that belong to it, which a report saves. What was looked at to choose a value is a
            curve, `{"x": "tau", "chosen": 0.7, "split": "val", "rows": [{"tau": 0.0, "per_class": [...]}, ...]}`,
            and is also drawn.

    Examples:
        >>> from longtail_lightning import LinearHead
        >>> Retrained(LinearHead(4, 2), "mine").details
        {}
    """

    head: nn.Module
    label: str
    details: dict[str, Any] = field(default_factory=dict)


class Retraining(ABC):
    """Base of the methods: `method(head, train, val) -> Retrained`. The trained head is never changed.

    A child sets `name` and answers `__call__`. It keeps nothing of what it has seen: one object can be used on
    any number of heads.

    Args:
        name: what its files are called; by default the name of its class.
    """

    name: str
    title: ClassVar[str] = ""
    """What tables call it, unless it was given another name; the name when empty."""
    uses_views: ClassVar[bool] = False
    """Whether it learns from several augmented views of each image; otherwise it gets the images as they are."""

    def __init__(self, name: str | None = None) -> None:
        if name is not None:
            self.name = name

    @abstractmethod
    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        """Make a new head.

        Args:
            head: the trained head.
            train: features that it was trained on.
            val: validation features, for what must be chosen.
            device: where to work.
        """

    def check(self, head: nn.Module, *, validation: bool = True) -> None:
        """Refuse what it cannot work on, before anything is trained.

        Args:
            head: the head that will have been trained.
            validation: whether there will be validation features.
        """
        return

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.title if self.title and self.name == type(self).name else self.name
