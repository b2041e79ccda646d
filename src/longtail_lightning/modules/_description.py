"""What a checkpoint says about its module, checked before anything is built from it: anybody may have written it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchvision.transforms import InterpolationMode

from longtail_lightning._errors import LongTailError
from longtail_lightning._known_classes import UnknownClassError
from longtail_lightning._lightning import HYPER_PARAMETERS
from longtail_lightning._spec import rebuild
from longtail_lightning.counts import ClassCounts

KEY = "longtail_lightning"
PARTS = (nn.Module, Optimizer, LRScheduler)
"""Kinds of what a checkpoint may ask to be built."""
# No size in the settings of a module is larger.
_ABSURD = 10**9
# Larger numbers in a description may be sizes that no memory holds.
_LARGE = 20_000
_FIELDS: dict[str, type | tuple[type, ...]] = {"class_path": str, "parts": dict, "card": dict}
_PREPARATION = {"resize", "crop", "crops", "mean", "std"}
_CARD: dict[str, type | tuple[type, ...]] = {
    "class_names": (list, type(None)),
    "class_counts": list,
    "many": int,
    "few": int,
    "input": (dict, type(None)),
}


def require_description(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a description that is not of the form that this library writes.

    Args:
        checkpoint: as it was read; one without a description passes.
        path: its file.
    """
    described, settings = checkpoint.get(KEY, {}), checkpoint.get(HYPER_PARAMETERS, {})
    wrong = _wrong(described, _FIELDS, "") if KEY in checkpoint else None
    if not isinstance(settings, Mapping) or any(number > _ABSURD for number in _numbers(settings)):
        wrong = HYPER_PARAMETERS
    if described and wrong is None:
        card = described["card"]
        wrong = _wrong(card, _CARD, "card.") or _wrong_part(described) or _wrong_classes(card) or _wrong_input(card)
    if wrong is not None:
        raise LongTailError(
            f"{path} describes its module in a form that this version does not read ({wrong}): it is damaged, or of "
            "another version; give another file."
        )


def _wrong(values: Any, fields: Mapping[str, type | tuple[type, ...]], prefix: str) -> str | None:
    if not isinstance(values, dict):
        return prefix.rstrip(".") or "no description"
    wrong = (key for key, kind in fields.items() if key not in values or not isinstance(values[key], kind))
    return next((f"{prefix}{key}" for key in wrong), None)


def _wrong_part(described: Mapping[str, Any]) -> str | None:
    for name, part in described["parts"].items():
        if not isinstance(part, dict) or not isinstance(part.get("class"), str) or "spec" not in part:
            return f"parts.{name}"
    if not _are_names(described.get("trainable", [])):
        return "trainable"
    shared = described.get("shared", [])
    good = isinstance(shared, list) and all(
        _are_names(names) and names and not any(_holds(a, b) for a in names for b in names) for names in shared
    )
    return None if good else "shared"


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _holds(outer: str, inner: str) -> bool:
    """Whether one module is a part of the other, and so cannot be the same."""
    return inner.startswith(f"{outer}.")


def _wrong_classes(card: Mapping[str, Any]) -> str | None:
    counts, names = card["class_counts"], card["class_names"]
    if card.get("convention", "kang") not in ("kang", "oltr"):
        return "card.convention"
    if not all(type(count) is int for count in counts):
        return "card.class_counts"
    if names is not None and (len(names) != len(counts) or not all(isinstance(name, str) for name in names)):
        return "card.class_names"
    return None


def _wrong_input(card: Mapping[str, Any]) -> str | None:
    told = card["input"] or {}
    if "interpolation" in told and (missing := _PREPARATION - told.keys()):
        return f"card.input.{min(missing)}"
    shape = told.get("shape", [3, 1, 1])
    good = {
        # Of features, or of channels, height and width.
        "shape": isinstance(shape, list) and all(_is_size(size) for size in shape),
        "interpolation": told.get("interpolation", "bilinear") in [mode.value for mode in InterpolationMode],
        "crops": _is_size(told.get("crops", 1)),
        **{name: told.get(name) is None or _is_size(told[name]) for name in ("resize", "crop")},
        **{name: told.get(name) is None or _is_statistic(told[name], shape) for name in ("mean", "std")},
    }
    return next((f"card.input.{name}" for name, is_good in good.items() if not is_good), None)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGE


def _is_statistic(value: Any, shape: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(x, (int, float)) and math.isfinite(x) for x in value)
    return numbers and isinstance(shape, list) and len(value) in (1, *shape[:1])


def require_plausible_size(
    name: str, spec: Any, class_counts: ClassCounts | None, state_dict: Mapping[str, Tensor]
) -> None:
    """Refuse a part that is much larger than the weights that come with it, before it fills the memory.

    Args:
        name: of the part.
        spec: its description.
        class_counts: for parts that need them.
        state_dict: the weights.
    """
    try:
        with torch.device("meta"):  # nothing is allocated
            part = rebuild(spec, class_counts)
    except UnknownClassError:
        raise
    except LongTailError:  # some modules compute while they are made, which takes memory
        if any(number > _LARGE for number in _numbers(spec)):
            raise
        return
    asked = sum(tensor.numel() for module in _modules(part) for tensor in [*module.parameters(), *module.buffers()])
    held = sum(_numbers_in_memory(state_dict.values()))
    if asked > 2 * held + 1_000_000:
        raise LongTailError(
            f"The checkpoint's {name} has {asked:,} numbers and its weights have {held:,}: the file is damaged, or "
            "made to fill the memory."
        )


def _numbers_in_memory(tensors: Iterable[Tensor]) -> Iterator[int]:
    """How many numbers tensors hold; a view can claim any size, and several can be of the same memory."""
    seen: set[int] = set()
    for tensor in tensors:
        if tensor.layout is not torch.strided or tensor.is_meta:
            continue
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            yield storage.nbytes() // tensor.element_size()


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)):
        yield abs(value) if isinstance(value, int) else 0


def _modules(part: Any) -> Iterator[nn.Module]:
    if isinstance(part, nn.Module):
        yield part
    elif isinstance(part, (list, dict)):
        for item in part.values() if isinstance(part, dict) else part:
            yield from _modules(item)
