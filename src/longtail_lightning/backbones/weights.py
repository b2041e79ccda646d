"""Weights of any checkpoint, read into a module of ours or of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._torch_files import read_torch_file

# Under which keys checkpoints keep their weights; averaged weights first, as they are what is evaluated.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_WEIGHTS = ("state_dict", "model_state_dict", "model", "module", "net", "teacher", "student")


@dataclass(frozen=True)
class LoadedWeights:
    """What `load_weights` has found.

    Args:
        file: where the weights came from.
        matched: names of the module's weights that the file had.
        missing: names of its other weights, which keep the values they had.
        unused: names in the file that have no counterpart, such as another model's classifier.
        prefix: what stands before the names in the file, such as `"backbone."`.
        averaged: whether the file's averaged (EMA) weights were taken.

    Examples:
        >>> print(LoadedWeights("m.pt", ["weight", "bias"], [], ["fc.weight"], prefix="model.").summary())
        m.pt: 2 of 2 weights, under 'model.'; 1 of the file is not used (fc.weight).
    """

    file: str
    matched: Sequence[str]
    missing: Sequence[str]
    unused: Sequence[str]
    prefix: str = ""
    averaged: bool = False

    def summary(self) -> str:
        """The report in one sentence."""
        total = len(self.matched) + len(self.missing)
        told = f"{self.file}: {len(self.matched)} of {total} weights"
        told += f", under {self.prefix!r}" if self.prefix else ""
        told += ", averaged ones" if self.averaged else ""
        if self.missing:
            told += f"; {len(self.missing)} {_are(self.missing)} missing there ({_few(self.missing)})"
        if self.unused:
            told += f"; {len(self.unused)} of the file {_are(self.unused)} not used ({_few(self.unused)})"
        return f"{told}."


def load_weights(
    module: nn.Module, path: str | Path, *, part: str = "backbone", averaged: bool = True
) -> LoadedWeights:
    """Read the weights of a module from any checkpoint.

    The file may be a checkpoint of this library, of Lightning, of a training script or of timm, a plain
    state dict, or safetensors. Prefixes such as `module.`, `model.` or `backbone.` are found by comparing names and
    shapes; so is the inner network of a `TimmBackbone` or `TorchvisionBackbone` in a file of the plain network.

    Args:
        module: what takes the weights.
        path: the file; no code is run from it.
        part: which part of a whole model is meant, where names alone do not tell: `"backbone"`, `"head"`, ....
        averaged: take averaged (EMA) weights where the file has them beside others.

    Returns:
        What matched, what was missing and what was left over.

    Raises:
        LongTailError: when nothing matches.

    Examples:
        >>> import torch
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> trained = nn.Linear(4, 2)
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "m.pt")
        ...     torch.save({"model": {f"module.fc.{key}": value for key, value in trained.state_dict().items()}}, file)
        ...     len(load_weights(nn.Linear(4, 2), file).matched)
        2
    """
    found, is_averaged = _state_dict(read_torch_file(path), path, averaged)
    wanted = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    if not wanted:
        raise LongTailError(f"{type(module).__name__} has no weights to read from {path}.")
    prefix, inner = max(
        _places(wanted, found), key=lambda place: _rank(wanted, found, *place, part=part), default=("", "")
    )
    matched = {name: found[source] for name, source in _pairs(wanted, found, prefix, inner)}
    if not any(value.ndim for value in matched.values()):  # counters of batch norms fit any network
        raise LongTailError(_nothing_matched(module, wanted, found, path))
    module.load_state_dict(matched, strict=False)
    used = {source for _, source in _pairs(wanted, found, prefix, inner)}
    return LoadedWeights(
        str(path),
        matched=list(matched),
        missing=[name for name in wanted if name not in matched],
        unused=[name for name in found if name.startswith(prefix) and name not in used],
        prefix=prefix,
        averaged=is_averaged,
    )


def _state_dict(content: Any, path: str | Path, averaged: bool) -> tuple[dict[str, Tensor], bool]:
    """The tensors of a checkpoint by name, wherever it keeps them, and whether they are averaged."""
    for key in (*(_AVERAGED if averaged else ()), *_WEIGHTS):
        if isinstance(content, Mapping) and isinstance(inside := content.get(key), Mapping):
            tensors, _ = _state_dict(inside, path, averaged)
            if tensors:
                return tensors, key in _AVERAGED
    if not isinstance(content, Mapping):
        raise LongTailError(f"{path} holds a {type(content).__name__}, not weights by name: give another file.")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}, False


def _places(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Ways in which names may correspond: what stands before them in the file, and in the module."""
    first_parts = {name.partition(".")[0] + "." for name in wanted if "." in name}
    for inner in ("", *(first_parts if len(first_parts) == 1 else ())):
        names = {name.removeprefix(inner) for name in wanted}
        # Any name may show it: a module may lack some of the file's weights, and the file some of its.
        prefixes = dict.fromkeys(source[:at] for source in found for at in _starts(source) if source[at:] in names)
        yield from ((prefix, inner) for prefix in prefixes)


def _starts(name: str) -> list[int]:
    """Where the parts of a dotted name begin."""
    return [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]


def _pairs(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str, inner: str
) -> Iterator[tuple[str, str]]:
    for name, value in wanted.items():
        source = prefix + name.removeprefix(inner)
        if source in found and found[source].shape == value.shape:
            yield name, source


def _rank(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str, inner: str, *, part: str
) -> tuple[int, bool, int]:
    """The most matches win, then the part that was asked for, then the shortest prefix."""
    matches = sum(1 for _ in _pairs(wanted, found, prefix, inner))
    return matches, f".{prefix}".endswith(f".{part}."), -len(prefix)


def _nothing_matched(
    module: nn.Module, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path
) -> str:
    name = type(module).__name__
    if not found:
        return f"{path} holds no weights by name: give another file."
    same = next((source for source in found if any(source.endswith(key) for key in wanted)), None)
    if same is not None:
        own = next(key for key in wanted if same.endswith(key))
        return (
            f"No weight of {path} fits {name}: {same} is {tuple(found[same].shape)} there and {own} is "
            f"{tuple(wanted[own].shape)} here, so they are networks of different sizes."
        )
    return (
        f"No weight of {path} ({_few(list(found))}) is one of {name} ({_few(list(wanted))}): "
        "it is another kind of network; build that one, or give another file."
    )


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
