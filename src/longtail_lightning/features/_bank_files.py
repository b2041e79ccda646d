"""A bank as arrays and a header, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import as_labels
from longtail_lightning.features._checks import require_multi_hot, require_one_each
from longtail_lightning.features._storage import HEADER, DamagedBankError, as_tensor, read_bank
from longtail_lightning.features._strings import Column, column_of_arrays
from longtail_lightning.features.verify import verify_bank

if TYPE_CHECKING:
    from longtail_lightning.features.bank import FeatureBank


def header_of(bank: FeatureBank) -> dict[str, Any]:
    """What `bank.json` says about a bank, apart from the list of its files."""
    return {
        "dtype": str(bank.dtype).removeprefix("torch."),
        "shape": list(bank.views.shape),
        "num_classes": bank.num_classes,
        "class_names": None if bank.given_names is None else list(bank.given_names),
        "fingerprint": bank.fingerprint,
    }


def arrays_of(bank: FeatureBank) -> dict[str, np.ndarray]:
    """All arrays of a bank but the features; those that it lacks are left out."""
    arrays = {} if bank.labels is None else {"labels": bank.labels.numpy()}
    for name, values in (("ids", bank.ids), ("texts", bank.texts)):
        if isinstance(values, Column):
            arrays |= values.arrays(name)
    return arrays


def open_bank(folder: Path, *, mmap: bool, verify: bool) -> dict[str, Any]:
    """The fields of the bank in a folder, checked."""
    if verify and (wrong := verify_bank(folder)):
        raise DamagedBankError.of(folder, ", ".join(f"{name} {what}" for name, what in wrong.items()), wrong)
    header, arrays = read_bank(folder, mmap=mmap)
    views, names, num_classes = as_tensor(arrays["features"]), header.get("class_names"), header["num_classes"]
    try:
        labels = as_tensor(arrays["labels"]) if "labels" in arrays else None
        ids, texts = (column_of_arrays(arrays, name) for name in ("ids", "texts"))
        require_one_each(views.shape[1], "inputs", labels=labels, ids=ids, texts=texts)
        require_one_each(num_classes, "classes", class_names=names)
        if labels is not None:
            _require_classes(labels, num_classes)
    except (LongTailError, ValueError, TypeError) as error:
        raise DamagedBankError.of(folder, str(error).rstrip("."), [HEADER]) from error
    return {
        "views": views,
        "labels": labels,
        "ids": range(views.shape[1]) if ids is None else ids,
        "texts": texts,
        "num_classes": num_classes,
        "given_names": None if names is None else tuple(names),
        "fingerprint": header["fingerprint"],
        "path": folder,
    }


def _require_classes(labels: torch.Tensor, num_classes: int) -> None:
    if labels.ndim == 1 and labels.dtype == torch.int64:
        as_labels(labels, num_classes)
    elif labels.ndim == 2 and labels.dtype == torch.uint8 and labels.shape[1] == num_classes:
        require_multi_hot(labels)
    else:
        raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)} for {num_classes} classes")
