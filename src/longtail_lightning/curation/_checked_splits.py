"""The splits of a data module as its files give them, with labels that a training may refuse."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning._open_file import not_a_file
from longtail_lightning.data._class_numbering import LabeledFiles
from longtail_lightning.data._file_checks import is_hidden, subfolders
from longtail_lightning.data._file_datamodule import FileDataModule
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.data.image_folder_lt import ImageFolderLT
from longtail_lightning.datasets.image_list import IMAGE_SUFFIXES
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.nested import item_name
from longtail_lightning.datasets.read_class_names import as_class_names
from longtail_lightning.datasets.read_text import shown

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass
class CheckedSplit:
    """A split: its items, their labels, and which of them are good."""

    split: str
    dataset: Dataset[Any]
    labels: np.ndarray
    keep: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.keep = np.ones(len(self.labels), dtype=bool)

    def name(self, index: int) -> str:
        """The file of an item, or its place in the split."""
        name = item_name(self.dataset, index)
        return f"{self.split}[{name}]" if name.isdigit() else name


@dataclass
class CheckedSplits:
    """The splits that there are, training first.

    Args:
        parts: one per split.
        class_names: one name per class; None when the labels are plain numbers.
        strays: files that the readers leave out: the kind of fault, the file, and why.
    """

    parts: list[CheckedSplit]
    class_names: list[str] | None = None
    strays: list[tuple[str, str, str]] = field(default_factory=list)


def checked_splits_of(data: LongTailDataModule | Mapping[str, Dataset[Any]]) -> CheckedSplits:
    """The splits of a data module, or of data sets by name."""
    if isinstance(data, FileDataModule):
        return _of_files(data)
    names = None
    if isinstance(data, LongTailDataModule):
        names = data.class_names
        found = {split: data.dataset(split) for split in SPLITS}
        data = {split: dataset for split, dataset in found.items() if dataset is not None}
    if not data:
        raise LongTailError("There is no data set to look at.")
    order = [split for split in SPLITS if split in data] + [split for split in data if split not in SPLITS]
    return CheckedSplits([CheckedSplit(split, data[split], labels_of(data[split]).numpy()) for split in order], names)


def _of_files(data: FileDataModule) -> CheckedSplits:
    """The splits in its files, read by a copy of the data module that accepts any labels."""
    data = copy(data)
    data.__dict__.pop("_train", None)
    data.relabel = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report lists all that readers leave out
        listings = {split: data.read(split) for split in SPLITS}
        stated = data.named_classes()
    found = {split: listing for split, listing in listings.items() if listing is not None}
    train = found["train"]
    names: list[str] | None = None if data._given_names is None else as_class_names(data._given_names)
    if stated is not None:
        keys: list[Any] | None = list(stated.keys)
        names = [*stated.names] if names is None else names
    elif isinstance(train.keys[0], str):
        keys = names if names is not None and set(names) >= set(train.keys) else train.keys
        names = names if names is not None and len(names) == len(keys) else [str(key) for key in keys]
    else:
        keys = None
    if keys is not None:
        assert names is not None
        # Classes that training does not know come last.
        more = sorted({key for listing in found.values() for key in listing.keys} - set(keys), key=str)
        keys, names = [*keys, *more], [*names, *map(str, more)]
    parts = [_part(split, listing, keys) for split, listing in found.items()]
    strays = list(_strays(data)) if isinstance(data, ImageFolderLT) else []
    return CheckedSplits(parts, names, strays)


def _part(split: str, listing: LabeledFiles, keys: Sequence[Any] | None) -> CheckedSplit:
    codes = listing.codes.numpy()
    place = None if keys is None else {key: i for i, key in enumerate(keys)}
    numbers = np.array([key if place is None else place[key] for key in listing.keys], dtype=np.int64)
    return CheckedSplit(split, listing.make(torch.zeros(len(codes), dtype=torch.int64)), numbers[codes])


def _strays(data: ImageFolderLT) -> Iterator[tuple[str, str, str]]:
    """Links to nowhere, files in class folders that are not images, and images outside of class folders."""
    for folder in data._folders.values():
        if folder is None:
            continue
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if _is_image(entry.name) and not entry.is_dir():
                yield "stray", _relative(entry.path, data.root), "an image outside of the class folders"
        for class_folder in subfolders(folder):
            for path, below, names in os.walk(class_folder):
                below[:] = sorted(name for name in below if not is_hidden(name))
                for name in sorted(names):
                    file = os.path.join(path, name)
                    if is_hidden(name):
                        continue
                    if not _is_image(name):
                        yield "stray", _relative(file, data.root), "no image by its name"
                    elif not os.path.exists(file):
                        yield "missing", _relative(file, data.root), "a link to nowhere"
                    elif (kind := not_a_file(file)) is not None:
                        yield "stray", _relative(file, data.root), kind


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _relative(path: str, root: Path) -> str:
    return shown(os.path.relpath(path, root))
