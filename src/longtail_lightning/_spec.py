"""Describe a component in plain values and build it again: what makes checkpoints self-contained.

A component keeps every init argument under an attribute of the same name, so its spec can be read
off: `{"class_path": ..., "init_args": {...}}`, the notation of the YAML files. Where an attribute of
that name must be something else (the bias of a linear head), a method `spec_args` tells the argument.
Specs hold plain values only; they load under `weights_only=True` and never import code that is not
imported yet.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts

Spec = dict[str, Any]
# Bound again by the module that owns the component; weights come from the state dict.
_BOUND_LATER = {"class_counts"}
# The weights are in the checkpoint: loading it must not download them again.
_NEUTRAL = {"pretrained": False}
_NUMBERS = (bool, int, float, str, "bool", "int", "float", "str")
# torch.nn losses drop these deprecated arguments after folding them into `reduction`.
_FOLDED = {"size_average", "reduce"}


class NotPlainError(TypeError):
    """A value that has no plain description."""


def plain(value: Any) -> Any:
    """Convert to what YAML and `weights_only=True` can hold.

    Raises:
        NotPlainError: for anything else.

    Examples:
        >>> plain({"counts": ClassCounts([3, 1]), "beta": 0.9})
        {'counts': [3, 1], 'beta': 0.9}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, ClassCounts):
        return value.tolist()
    if isinstance(value, Tensor) or type(value).__module__ == "numpy":
        if getattr(value, "ndim", 0) == 0:
            return value.item()
        raise NotPlainError(type(value).__name__)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise NotPlainError(type(value).__name__)


def plain_items(values: Mapping[str, Any]) -> dict[str, Any]:
    """The items that have a plain description; the rest is left out."""
    kept = {}
    for key, value in values.items():
        try:
            kept[key] = plain(value)
        except NotPlainError:
            continue
    return kept


def spec_of(component: nn.Module) -> Spec | None:
    """Class path and init arguments, or None when an argument cannot be read off as a plain value.

    Examples:
        >>> from longtail_lightning.heads import LinearHead
        >>> spec_of(LinearHead(64, 10))["init_args"]
        {'num_features': 64, 'num_classes': 10, 'bias': True}
    """
    cls = type(component)
    if "<locals>" in cls.__qualname__:
        return None
    init_args: dict[str, Any] = {}
    told: dict[str, Any] = getattr(component, "spec_args", dict)()
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if name in _BOUND_LATER or (name in _FOLDED and cls.__module__.startswith("torch.nn")):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return None
        if name not in told and not hasattr(component, name):
            return None
        value = told[name] if name in told else getattr(component, name)
        # `self.dropout = nn.Dropout(dropout)` and learned values: the argument itself is lost.
        if isinstance(value, nn.Parameter) or (isinstance(value, nn.Module) and parameter.annotation in _NUMBERS):
            return None
        try:
            init_args[name] = spec_of(value) if isinstance(value, nn.Module) else plain(value)
        except NotPlainError:
            return None
        if isinstance(value, nn.Module) and init_args[name] is None:
            return None
        if name in _NEUTRAL and cls.__module__.split(".")[0] == "longtail_lightning":
            init_args[name] = _NEUTRAL[name]
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}


def build(spec: Spec, class_counts: ClassCounts | None = None) -> nn.Module:
    """Build a component from its spec; `class_counts` go to a component that requires them.

    Only classes of this package and of modules that are imported already are built, so a
    checkpoint from a stranger cannot import code.
    """
    module_name, _, class_name = spec["class_path"].rpartition(".")
    module = sys.modules.get(module_name)
    if module is None and module_name.split(".")[0] == "longtail_lightning":
        module = __import__(module_name, fromlist=[class_name])
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise LongTailError(
            f"The checkpoint holds a {spec['class_path']}, which is not imported: import {module_name!r} "
            "before you load the checkpoint."
        )
    init_args = {
        name: build(value, class_counts) if isinstance(value, dict) and "class_path" in value else value
        for name, value in spec["init_args"].items()
    }
    if (counts := inspect.signature(cls).parameters.get("class_counts")) and counts.default is counts.empty:
        init_args["class_counts"] = class_counts
    try:
        return cls(**init_args)
    except Exception as error:
        raise LongTailError(
            f"The checkpoint's {spec['class_path']} cannot be built again from {init_args}: {error}. "
            "Pass the part to load_from_checkpoint(path, head=...), backbone=... or loss=..."
        ) from error
