"""Images and labels from .npz, .npy and .pt files and from memory, as uint8 `(N, channels, height, width)`.

Nothing is unpickled: a file from a stranger cannot run code.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._open_file import require_file
from longtail_lightning.counts import as_labels
from longtail_lightning.datasets.array_images import ArrayImages
from longtail_lightning.datasets.read_npz import Npz, require_possible_zip

ArraySource = str | Path | Mapping[str, Any] | Sequence[Any]
Layout = Literal["hwc", "chw"]
Keys = Mapping[str, str]

_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_IMAGES = ("images", "x", "data")
_LABELS = ("labels", "y", "targets")
_NAMES = ("class_names", "classes", "label_names")
_OWN_KEYS = (*(f"{split}_{part}" for split in _SPLITS for part in ("images", "labels")), "images", "labels")
_PIECE = 1024  # images converted at once


def read_source(source: ArraySource) -> Mapping[str, Any]:
    """Arrays by name: those of a file (read when asked for), of a mapping, or of an (images, labels) pair.

    Args:
        source: an .npz, .pt or .pth file, a mapping, or a pair of arrays, tensors or .npy files.
    """
    if isinstance(source, Mapping):
        return source
    if isinstance(source, (str, Path)):
        return _read_file(Path(source))
    if isinstance(source, (tuple, list)) and len(source) == 2:
        images, labels = (_member(part) for part in source)
        return {"images": images, "labels": labels}
    raise LongTailError(
        f"Cannot read images from {type(source).__name__}: give an .npz or .pt file, a pair (images, labels) "
        "of arrays or .npy files, or a mapping from names to arrays."
    )


def has_split(arrays: Mapping[str, Any], split: str, keys: Keys | None = None) -> bool:
    """Whether a file holds this split under its own names, such as x_val and y_val."""
    return _names(arrays, split, keys, plain=False) is not None


def read_images(
    arrays: Mapping[str, Any], split: str, *, where: str, keys: Keys | None = None, layout: Layout | None = None
) -> ArrayImages:
    """The images and labels of a split.

    Args:
        arrays: arrays by name.
        split: `"train"`, `"val"` or `"test"`.
        where: what errors call the source.
        keys: names that differ from the usual ones, for example `{"train_images": "X"}`.
        layout: where the channels are, `"hwc"` or `"chw"`, when the shape does not tell.
    """
    if (found := _names(arrays, split, keys, plain=True)) is None:
        present = ", ".join(list(arrays)[:8]) or "nothing"
        raise LongTailError(
            f"{where} has no images and labels for {split} (it holds {present}): name them x_{split} and y_{split}, "
            f"or {split}_images and {split}_labels, or say keys={{'{split}_images': ..., '{split}_labels': ...}}."
        )
    images, labels = (_array(arrays, name, where) for name in found)
    try:
        pixels = as_uint8_images(images, layout)
        classes = _squeezed(labels)
        if len(classes) != len(pixels):
            raise LongTailError(f"{len(pixels)} images but {len(classes)} labels: give one label per image.")
        return ArrayImages(pixels, classes)
    except LongTailError as error:
        raise LongTailError(f"{where}, {split}: {error}") from error
    except (MemoryError, RuntimeError) as error:  # a tensor that repeats one value claims any size
        raise LongTailError(f"{where}, {split}: images of shape {_shape(images)} do not fit the memory.") from error


def class_names_in(arrays: Mapping[str, Any]) -> list[str] | None:
    """Class names that a file holds beside the images."""
    for name in _NAMES:
        if name in arrays:
            values = arrays[name]
            return [str(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]
    return None


def as_uint8_images(images: Any, layout: Layout | None = None) -> Tensor:
    """Any array of images as uint8 RGB `(N, 3, height, width)`.

    Grayscale is repeated, a fourth channel (transparency) dropped, floating point in [0, 1] scaled and rounded.

    Args:
        images: `(N, height, width)`, `(N, height, width, channels)` or `(N, channels, height, width)`.
        layout: where the channels are, when the shape does not tell.

    Examples:
        >>> as_uint8_images(np.ones((2, 4, 5))).shape
        torch.Size([2, 3, 4, 5])
    """
    if isinstance(images, Tensor):
        images = images.detach().cpu()
        images = (images.float() if images.dtype == torch.bfloat16 else images).numpy()
    pixels = torch.from_numpy(_writable(_eight_bit(np.asarray(images))))
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    elif _layout(tuple(pixels.shape), layout) == "hwc":
        pixels = pixels.permute(0, 3, 1, 2)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    return pixels[:, :3].contiguous()


def _layout(shape: tuple[int, ...], layout: Layout | None) -> Layout:
    if layout not in (None, "hwc", "chw"):
        raise LongTailError(f"layout={layout!r}: choose 'hwc' or 'chw'.")
    if len(shape) != 4:
        raise LongTailError(f"images of shape {shape} are neither (N, height, width) nor that with channels.")
    usual = (1, 3, 4)
    possible: list[Layout] = [name for name, size in (("hwc", shape[3]), ("chw", shape[1])) if size in usual]  # type: ignore[misc]
    if layout is not None:
        if layout not in possible:
            channels = shape[3] if layout == "hwc" else shape[1]
            raise LongTailError(f"images of shape {shape} have {channels} channels as {layout!r}: 1, 3 or 4 are known.")
        return layout
    if len(possible) == 1:
        return possible[0]
    told = "both look like channels" if possible else "no side is 1, 3 or 4, as channels are"
    raise LongTailError(
        f"images of shape {shape} may be channels-last or channels-first ({told}): say layout='hwc' or layout='chw'."
    )


def _eight_bit(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "uif" or not images.size:
        raise LongTailError(f"images are {images.dtype} of shape {images.shape}: give uint8, or floats in [0, 1].")
    whole = images.dtype.kind in "ui"
    out = np.empty(images.shape, dtype=np.uint8)
    for piece, target in _pieces(images, out):
        low, high = piece.min(), piece.max()
        if not (low >= 0 and high <= (255 if whole else 1)):
            hint = "divide by 255" if low >= 0 and high <= 255 else "undo their normalization"
            raise LongTailError(
                f"images are {images.dtype} with values from {low:g} to {high:g}: give uint8 (0 to 255), "
                f"or floats in [0, 1] ({hint})."
            )
        target[...] = piece if whole else np.rint(piece.astype(np.float64) * 255)
    return out


def _pieces(images: np.ndarray, out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, len(images), _PIECE):
        yield images[first : first + _PIECE], out[first : first + _PIECE]


def _shape(images: Any) -> tuple[int, ...]:
    return tuple(getattr(images, "shape", ()))


def _squeezed(labels: Any) -> Tensor:
    shape = _shape(labels)
    if len(shape) == 2 and shape[1] == 1:
        labels = labels[:, 0]
    elif len(shape) == 2:
        raise LongTailError(
            f"labels have shape {shape}, {shape[1]} numbers per image: give one class index per image; "
            "labels.argmax(1) turns one-hot labels into that."
        )
    return as_labels(labels)


def _writable(array: np.ndarray) -> np.ndarray:
    """A copy if the array is read-only or mirrored: PyTorch would warn about one and refuse the other."""
    return array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()


def _names(arrays: Mapping[str, Any], split: str, keys: Keys | None, *, plain: bool) -> tuple[str, str] | None:
    """What images and labels of a split are called; `plain` also allows names without the split."""
    if unknown := [key for key in keys or () if key not in _OWN_KEYS]:
        raise LongTailError(f"keys has no {unknown[0]!r}. {did_you_mean(unknown[0], _OWN_KEYS)}")
    present = {name.lower(): name for name in arrays}
    found: list[str] = []
    for part, words in (("images", _IMAGES), ("labels", _LABELS)):
        names = [f"{s}_{word}" for s in _SPLITS[split] for word in words]
        names += [f"{word}_{s}" for s in _SPLITS[split] for word in words]
        names += words if plain else ()
        given = [(keys or {}).get(f"{split}_{part}"), (keys or {}).get(part) if plain else None]
        if wanted := [name for name in given if name is not None]:
            found += [name for name in wanted[:1] if name in arrays]
        else:
            found += [present[name] for name in names if name in present][:1]
    return (found[0], found[1]) if len(found) == 2 else None


def _array(arrays: Mapping[str, Any], name: str, where: str) -> Any:
    try:
        return arrays[name]
    except (ValueError, EOFError, OSError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise LongTailError(_cannot_be_read(f"{where}: {name!r}", error)) from error


def _member(part: Any) -> Any:
    if not isinstance(part, (str, Path)):
        return part
    path = Path(part)
    if path.suffix != ".npy":
        raise LongTailError(f"{path}: a pair (images, labels) is made of .npy files or arrays.")
    return _load(path)


def _read_file(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".npy":
        raise LongTailError(f"{path} holds one array: give a pair, [images.npy, labels.npy].")
    arrays = _load(path)
    if isinstance(arrays, Mapping):
        return arrays
    if isinstance(arrays, (tuple, list)) and len(arrays) == 2:
        return {"images": arrays[0], "labels": arrays[1]}
    raise LongTailError(f"{path} holds a {type(arrays).__name__}: save a dictionary of arrays, or (images, labels).")


def _load(path: Path) -> Any:
    if path.is_dir():
        raise LongTailError(f"{path} is a folder, expected a file of arrays (.npz, .npy or .pt).")
    require_file(path)
    if not path.is_file():
        raise LongTailError(f"{path} does not exist: check the path (it starts from {Path.cwd()}).")
    try:
        if path.suffix == ".npz":
            return Npz(path)
        if path.suffix == ".npy":
            # Copy on write: a large file is read as it is needed.
            return np.load(path, mmap_mode="c", allow_pickle=False)
        if path.suffix in (".pt", ".pth"):
            require_possible_zip(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except LongTailError:
        raise
    except Exception as error:  # zip, pickle and torch raise a dozen types for broken files
        raise LongTailError(_cannot_be_read(str(path), error)) from error
    raise LongTailError(f"{path} is not an .npz, .npy or .pt file: save the arrays with numpy.savez(path, ...).")


def _cannot_be_read(where: str, error: Exception) -> str:
    if any(word in str(error).lower() for word in ("pickle", "weights_only", "python objects")):
        return (
            f"{where} holds Python objects, which are not loaded because they could run code: "
            "save arrays or tensors of numbers."
        )
    return f"{where} cannot be read (broken or incomplete): download or save it again."
