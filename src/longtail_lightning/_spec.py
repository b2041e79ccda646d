"""Describe a component in plain values and build it again: what makes checkpoints self-contained.

A component keeps every init argument under an attribute of the same name, so its spec can be read
off: `{"class_path": ..., "init_args": {...}}`, the notation of the YAML files. Modules in arguments,
in lists and in dicts are described likewise. Where an attribute of that name must be something else
(the bias of a linear head), a method `spec_args` tells the argument. Arguments that only say where
a run starts (pretrained weights, teachers) stand in the class's `start_only`, with the value that a
spec holds in their place: loading a checkpoint must not ask for them again.
Specs hold plain values only; they load under `weights_only=True` and never import code that is not
imported yet.
"""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._known_classes import UnknownClassError, class_named
from longtail_lightning.counts import ClassCounts

Spec = dict[str, Any]
# Left out of a spec: the module that owns the component binds them again.
_BOUND_LATER = {"class_counts"}
_NUMBERS = (bool, int, float, str, "bool", "int", "float", "str")
# Modules of torch.nn do not keep these: weights are moved and cast later, and `reduction` replaced the last two.
_TORCH_DROPS = {"device", "dtype", "size_average", "reduce"}


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
    try:
        return _module(component)
    except NotPlainError:
        return None


def describe(value: Any) -> Any:
    """A plain description of a module, of modules in lists and dicts, or of a plain value.

    Raises:
        NotPlainError: for anything else.

    Examples:
        >>> describe({"act": nn.ReLU(), "sizes": (1, 2)})["sizes"]
        [1, 2]
    """
    if isinstance(value, nn.Module):
        return _module(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    return plain(value)


def _module(component: nn.Module) -> Spec:
    cls = type(component)
    path = f"{cls.__module__}.{cls.__qualname__}"
    if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls:
        raise NotPlainError(path)  # a class made in a function, or by torch for one module, as weight_norm does
    held = dict(component._modules)  # `named_children` leaves out a module that is there a second time
    if cls is nn.Sequential:
        return {"class_path": path, "named": describe(held)}
    if cls in (nn.ModuleList, nn.ModuleDict):
        return {
            "class_path": path,
            "init_args": {"modules": describe(held if cls is nn.ModuleDict else [*held.values()])},
        }
    told: dict[str, Any] = getattr(component, "spec_args", dict)()
    start_only: Mapping[str, Any] = getattr(cls, "start_only", {})
    init_args: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if name in _BOUND_LATER or (name in _TORCH_DROPS and _of_torch(cls)):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if cls is nn.Identity:  # accepts any argument and ignores it
                continue
            raise NotPlainError(f"{path}(*{name})")
        if name in start_only:
            init_args[name] = start_only[name]
        else:
            init_args[name] = describe(_argument(component, parameter, told))
    return {"class_path": path, "init_args": init_args}


def _argument(component: nn.Module, parameter: inspect.Parameter, told: Mapping[str, Any]) -> Any:
    """The value that an init argument had."""
    name = parameter.name
    if name in told:
        return told[name]
    if not hasattr(component, name):
        raise NotPlainError(name)
    value = getattr(component, name)
    if name == "bias" and _of_torch(type(component)):
        return value is not None
    # `self.dropout = nn.Dropout(dropout)` and learned values: the argument itself is lost.
    if isinstance(value, nn.Parameter) or (isinstance(value, nn.Module) and parameter.annotation in _NUMBERS):
        raise NotPlainError(name)
    return value


def _of_torch(cls: type) -> bool:
    return cls.__module__.startswith("torch.nn.")


def without_starts(value: Any) -> Any:
    """A config without what only says where a run starts, whatever class of ours it is an argument of.

    Examples:
        >>> import longtail_lightning.backbones
        >>> path = "longtail_lightning.backbones.ResNet10"
        >>> without_starts({"class_path": path, "init_args": {"weights": "first.pt"}})["init_args"]
        {'weights': None}
    """
    if isinstance(value, list):
        return [without_starts(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_starts(item) for key, item in value.items()}
    starts: Mapping[str, Any] = getattr(class_named(kept.get("class_path")), "start_only", {})
    for arguments in (kept.get("init_args"), kept.get("dict_kwargs")):
        if isinstance(arguments, dict):
            arguments.update({key: empty for key, empty in starts.items() if key in arguments})
    return kept


def build(spec: Spec, class_counts: ClassCounts | None = None) -> nn.Module:
    """Build a component from its spec; `class_counts` go to a component that requires them.

    Only classes of this package and of modules that are imported already are built, so a
    checkpoint from a stranger cannot import code.
    """
    cls = class_named(spec["class_path"])
    if cls is None or not issubclass(cls, nn.Module):
        raise UnknownClassError(spec["class_path"])
    if not isinstance(spec.get("named", spec.get("init_args")), dict):
        raise LongTailError(
            f"The checkpoint's {spec['class_path']} has no arguments: it is damaged; give another file."
        )
    if "named" in spec:  # nn.Sequential, which takes no keywords
        return cls(OrderedDict(rebuild(spec["named"], class_counts)))
    init_args = rebuild(spec["init_args"], class_counts)
    # A file that somebody has edited may name other weights to begin with.
    init_args.update({name: empty for name, empty in getattr(cls, "start_only", {}).items() if name in init_args})
    if (counts := inspect.signature(cls).parameters.get("class_counts")) and counts.default is counts.empty:
        init_args["class_counts"] = class_counts
    try:
        return cls(**init_args)
    except Exception as error:
        raise LongTailError(
            f"The checkpoint's {spec['class_path']} cannot be built again from {init_args}: {error}. "
            "Pass the part to load_from_checkpoint(path, head=...), backbone=... or loss=..."
        ) from error


def rebuild(description: Any, class_counts: ClassCounts | None = None) -> Any:
    """Build again what `describe` described: modules, also in lists and dicts, and plain values."""
    if isinstance(description, dict):
        if "class_path" in description:
            return build(description, class_counts)
        return {key: rebuild(item, class_counts) for key, item in description.items()}
    if isinstance(description, list):
        return [rebuild(item, class_counts) for item in description]
    return description
