"""Find every public component and build one of each."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

import longtail_lightning
from longtail_lightning import IdentityBackbone
from longtail_lightning._rooms import exports
from longtail_lightning.heads import CosineHead, LinearHead

NUM_CLASSES = 5
COUNTS = [40, 20, 10, 4, 1]
LABELS = [label for label, count in enumerate(COUNTS) for _ in range(count)]

# Values for required arguments, by name: a new component passes without being listed here.
REQUIRED: dict[str, Any] = {
    "num_features": 8,
    "num_classes": NUM_CLASSES,
    "class_counts": COUNTS,
    "labels": LABELS,
    "epochs": 10,
    "dataset": range(len(LABELS)),
    "loss": nn.CrossEntropyLoss(),
    "encoder": nn.Linear(8, 8),
    "head": LinearHead(8, NUM_CLASSES),
    "heads": [LinearHead(8, NUM_CLASSES), CosineHead(8, NUM_CLASSES)],
    "name": "resnet10t",
    "backbone": IdentityBackbone(3 * 64 * 64),
}
BY_CLASS: dict[str, dict[str, Any]] = {
    "TorchvisionBackbone": {"name": "resnet18"},
    "IdentityBackbone": {"num_features": 3 * 64 * 64},
}


def public_classes(room: str) -> list[type]:
    """The concrete public classes of a room."""
    module = getattr(longtail_lightning, room)
    classes = [getattr(module, name) for name in exports(room)]
    return [cls for cls in classes if inspect.isclass(cls) and not inspect.isabstract(cls)]


def make(cls: type, **options: Any) -> Any:
    """An instance with default arguments, and the required ones from the table above."""
    required = {
        name: BY_CLASS.get(cls.__name__, {}).get(name, REQUIRED.get(name))
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    return cls(**{**required, **options})
