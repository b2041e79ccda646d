"""Any folder of images: one folder per class."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import Dataset, Subset
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.data._class_numbering import LabeledFiles, NamedClasses
from longtail_lightning.data._file_checks import data_folder, is_hidden, subfolders, unpack
from longtail_lightning.data._file_datamodule import FileDataModule
from longtail_lightning.data.datamodule import Split
from longtail_lightning.data.options import SubsetOptions
from longtail_lightning.datasets.decode import MAX_PIXELS
from longtail_lightning.datasets.hold_out import hold_out
from longtail_lightning.datasets.image_list import IMAGE_SUFFIXES, ImageList
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.read_class_names import ClassNamesLike
from longtail_lightning.datasets.read_text import first_few, shown

LAYOUT = """
root/                or    root/
  train/                     cat/1.jpg
    cat/1.jpg                dog/2.jpg
    dog/2.jpg
  val/ and test/, with the same class folders
"""
_OTHER_NAMES = {"train": ("training",), "val": ("valid", "validation"), "test": ("testing",)}
_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_TEST_SEED = 0
_SUFFIXES = tuple(IMAGE_SUFFIXES)


class ImageFolderLT(FileDataModule):
    """Any folder with one sub-folder of images per class, as long-tailed as it is.

    `root` holds the folders `train`, `val` and `test`, each with the class folders; or the class
    folders themselves: then `test_split` and `val_split` of each class are held out. Which images are
    the test set does not depend on `seed`, so runs with other seeds compare. Classes are ordered by the
    name of their folder, images may lie deeper, hidden files are left out.

    Args:
        root: the folder.
        train: name of the training folder.
        val: name of the validation folder (`valid` and `validation` are found as well); None for
            images held out by `val_split`.
        test: name of the test folder; None for no test split.
        test_split: share of each class to hold out for testing, when `root` holds the class folders themselves.
        class_names: a list, or a file that `read_class_names` understands; by default the folder names.
        transforms: a preset (`"imagenet"`, `"clip"`, ...) or `ResizedCropTransforms(...)`.
        val_split: share of each training class to hold out when there is no validation folder.
        imbalance_factor: make the training set long-tailed; None takes all of it.
        max_pixels: images with more pixels are not decoded, see `decode_image`.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for file in ("cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "cat/4.jpg", "dog/1.jpg"):
        ...         Path(folder, file).parent.mkdir(exist_ok=True)
        ...         Path(folder, file).touch()
        ...     dm = ImageFolderLT(folder)
        ...     dm.class_counts, dm.class_names, dm.labels("test").tolist()
        (ClassCounts([2, 1]), ['cat', 'dog'], [0])
    """

    no_test = "add a folder for it, or hold images out of class folders with test_split"

    def __init__(
        self,
        root: str | Path,
        *,
        train: str = "train",
        val: str | None = "val",
        test: str | None = "test",
        test_split: float = 0.1,
        class_names: ClassNamesLike | None = None,
        transforms: TransformsLike = "imagenet",
        val_split: float = 0.1,
        imbalance_factor: float | None = None,
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[SubsetOptions],
    ) -> None:
        super().__init__(
            root,
            class_names=class_names,
            transforms=transforms,
            max_pixels=max_pixels,
            val_split=val_split,
            imbalance_factor=imbalance_factor,
            **options,
        )
        if val is not None and val == test:
            raise LongTailError(
                f"val and test are both {val!r}: choosing an epoch on the images you report makes the result too good, "
                "so hold out training images with val=null and val_split=0.1."
            )
        if not 0 <= test_split < 1:
            raise LongTailError(f"test_split={test_split} must lie between 0 and 1: the share of each class.")
        self.train, self.val, self.test = train, val, test
        self.test_split = test_split

    def build(self, split: Split) -> Dataset[Any] | None:
        if not self._flat or split == "val":
            return super().build(split)
        full = self._train[0]
        if not self.test_split:
            return full if split == "train" else None
        train, test = self._train_and_test
        return Subset(full, (train if split == "train" else test).tolist())

    @cached_property
    def _train_and_test(self) -> tuple[Tensor, Tensor]:
        return hold_out(labels_of(self._train[0]), self.test_split, seed=_TEST_SEED)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self._flat:
            sizes = [len(labels_of(part)) if (part := self.dataset(s)) is not None else 0 for s in _SPLITS]
            rank_zero_info(
                f"{self.root}: {sizes[0]} images to train on; held out, class by class, are {sizes[1]} to validate "
                f"and {sizes[2]} to test."
            )

    def read(self, split: Split) -> LabeledFiles | None:
        folder = self._folders[split]
        if folder is None:
            return None
        files, labels = images_by_class(folder, self.root)
        return LabeledFiles(str(folder), labels, partial(ImageList, files, root=self.root, max_pixels=self.max_pixels))

    def named_classes(self) -> NamedClasses:
        folder = self._folders["train"]
        assert folder is not None
        names = [path.name for path in subfolders(folder)]
        return NamedClasses(names, names)

    @property
    def _flat(self) -> bool:
        return self._folders["train"] == self.root

    @cached_property
    def _folders(self) -> dict[Split, Path | None]:
        """The folder of each split; `root` itself for training when it holds the classes."""
        root = data_folder(self.root, LAYOUT)
        wanted: dict[Split, str | None] = {"train": self.train, "val": self.val, "test": self.test}
        found = {split: _find(root, name, split) for split, name in wanted.items()}
        for split, name in wanted.items():
            if name not in (None, split) and found[split] is None:
                below = [folder.name for folder in subfolders(root)]
                hint = did_you_mean(str(name), below, listing=f"ls {root}")
                raise LongTailError(f"{root} has no folder {name!r} that holds class folders. {hint}")
        if found["train"] is None:
            if held := [path.name for path in (found["val"], found["test"]) if path is not None]:
                raise LongTailError(
                    f"{root} holds {' and '.join(held)} but no training folder {self.train!r}; if it is called "
                    f"otherwise, pass train=NAME: {first_few(p.name for p in subfolders(root) if p.name not in held)}."
                )
            _check_flat(root)
            return {"train": root, "val": None, "test": None}
        return found


def _find(root: Path, name: str | None, split: str) -> Path | None:
    """The folder of a split, if it holds folders: a `photos/train` with images in it is a class of trains."""
    if name is None:
        return None
    names = (name, *_OTHER_NAMES[split]) if name == split else (name,)
    by_name = {folder.name.lower() if name == split else folder.name: folder for folder in reversed(subfolders(root))}
    return next((by_name[n] for n in names if n in by_name and subfolders(by_name[n])), None)


def _check_flat(root: Path) -> None:
    """Guess whether `root` is one level too high or too low."""
    below = subfolders(root)
    if not below:
        entries = [entry for entry in root.iterdir() if not is_hidden(entry.name)]
        if archives := [entry for entry in entries if unpack(entry)]:
            raise LongTailError(
                f"{root} holds {first_few(a.name for a in archives)} and no folders: {unpack(archives[0])}"
            )
        if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries):
            raise LongTailError(
                f"{root} holds images but no class folders: if it is the folder of one class, "
                f"pass {root.absolute().parent}. Expected a folder such as\n{LAYOUT.strip()}"
            )
        raise LongTailError(f"{root} holds no class folders. Expected a folder such as\n{LAYOUT.strip()}")
    if len(below) == 1:
        deeper = subfolders(below[0])
        fix = f"its images are one level deeper, pass {below[0]}" if deeper else "two classes are the least"
        raise LongTailError(f"{root} holds a single class folder ({below[0].name}): {fix}.")
    known = {name for split, others in _OTHER_NAMES.items() for name in (split, *others)}
    if all(folder.name.lower() in known for folder in below):
        raise LongTailError(
            f"{first_few(folder.name for folder in below)} in {root} hold no class folders. Expected a folder such as\n"
            f"{LAYOUT.strip()}"
        )
    siblings = [folder.name for folder in subfolders(root.absolute().parent) if folder.name != root.absolute().name]
    if root.absolute().name.lower() in known and (others := known & set(siblings)):
        rank_zero_warn(
            f"{root} is taken as the whole data set; pass {root.absolute().parent} as root to use "
            f"{' and '.join(sorted(others))} beside it."
        )


def images_by_class(folder: Path, root: Path) -> tuple[list[str], list[str]]:
    """Image files, relative to `root`, and the class folder of each.

    Args:
        folder: holds the class folders.
        root: what the files are relative to.
    """
    classes = subfolders(folder)
    prefix = folder.relative_to(root).as_posix()
    prefix = "" if prefix == "." else f"{prefix}/"
    skipped: list[str] = []
    with ThreadPoolExecutor(8) as threads:  # a network drive serves several requests at once
        scanned = list(threads.map(partial(_scan, skipped=skipped, above=frozenset()), map(str, classes)))
    names = [path.name for path in classes]
    files = [f"{prefix}{name}/{file}" for name, found in zip(names, scanned) for file in found]
    labels = [name for name, found in zip(names, scanned) for _ in found]
    with os.scandir(folder) as entries:
        loose = sum(not is_hidden(entry.name) and _is_image(entry.name) for entry in entries)
    if loose:
        rank_zero_warn(f"Images in {folder} itself, outside of the class folders, are left out ({loose} in all).")
    if not files:
        packed = {".zip", ".tar", ".gz", ".tgz"} & set(skipped)
        fix = "unpack the archives in them first" if packed else "is this the folder of the images?"
        raise LongTailError(f"The class folders of {folder} ({first_few(names)}) hold no image: {fix}")
    if skipped:
        kinds = ", ".join(f"{count} {shown(kind)}" for kind, count in Counter(skipped).most_common(3))
        rank_zero_warn(f"Files in {folder} that are not images are left out: {kinds}.")
    if all(all("/" in file for file in found) for found in scanned):
        rank_zero_warn(
            f"No class folder of {folder} ({first_few(names)}) holds images itself, only its sub-folders "
            "do: if those are the classes, root is one level too high."
        )
    return files, labels


def _scan(folder: str, skipped: list[str], above: frozenset[tuple[int, int]]) -> list[str]:
    """Image files below a folder, relative to it, sorted; suffixes of other files go to `skipped`."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in above:  # a link that leads back up
        return []
    above |= {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:
        found = {entry.name: entry for entry in entries if not is_hidden(entry.name)}
    files: list[str] = []
    for name in sorted(found):
        entry = found[name]
        if entry.is_dir():
            files.extend(f"{name}/{file}" for file in _scan(entry.path, skipped, above))
        elif not _is_image(name):
            skipped.append(os.path.splitext(name)[1].lower() or "without suffix")
        elif not entry.is_file():  # following links; a pipe would be waited for
            skipped.append("pipes or devices" if os.path.exists(entry.path) else "broken links")
        else:
            files.append(name)
    return files


def _is_image(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)
