"""Any image data set of the `datasets` library, from the Hub or from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.data._class_numbering import LabeledFiles, NamedClasses
from longtail_lightning.data._file_datamodule import FileDataModule
from longtail_lightning.data.datamodule import Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.decode import MAX_PIXELS
from longtail_lightning.datasets.image_bytes import ImageBytes
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.read_class_names import ClassNamesLike

_OTHER_NAMES: dict[Split, tuple[str, ...]] = {"train": (), "val": ("valid", "val", "dev"), "test": ()}


class HuggingFaceLT(FileDataModule):
    """Images of the `datasets` library: a name on the Hub, a folder of `save_to_disk`, or anything else it can load.

    Needs `pip install 'longtail-lightning[huggingface]'`. Labels are read without decoding an image;
    images are decoded as everywhere in this library.

    Args:
        path: name on the Hub (`"cifar100"`), folder of `save_to_disk`, folder with files, or a format of
            the library such as `"imagefolder"` together with `data_dir`.
        name: the configuration, for data sets with several.
        data_dir: the folder with the files, when `path` is a format.
        revision: commit or tag of the data set on the Hub, so that a result can be repeated.
        image_column: column of the images.
        label_column: column of the labels, numbers or names.
        train: name of the training split.
        val: name of the validation split (`valid`, `val` and `dev` are found as well); None for images held
            out by `val_split`.
        test: name of the test split; None for none.
        class_names: a list, or a file that `read_class_names` understands; by default those of the data set.
        relabel: number the classes anew, for labels that are numbers with a meaning of their own.
        transforms: a preset (`"imagenet"`, `"cifar100"`, ...) or `ResizedCropTransforms(...)`.
        max_pixels: images with more pixels are not decoded, see `decode_image`.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> dm = HuggingFaceLT("cifar100", image_column="img", label_column="fine_label", transforms="cifar100")
        >>> dm.test
        'test'
    """

    no_test = "pass test with the name of one"

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        data_dir: str | None = None,
        revision: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
        train: str = "train",
        val: str | None = "validation",
        test: str | None = "test",
        class_names: ClassNamesLike | None = None,
        relabel: bool = False,
        transforms: TransformsLike = "imagenet",
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(
            path,
            class_names=class_names,
            relabel=relabel,
            transforms=transforms,
            max_pixels=max_pixels,
            **options,
        )
        if val is not None and val == test:
            raise LongTailError(
                f"val and test are both {val!r}: choosing an epoch on the images you report makes the result too good, "
                "so hold out training images with val=null and val_split=0.1."
            )
        self.path, self.name, self.data_dir, self.revision = path, name, data_dir, revision
        self.image_column, self.label_column = image_column, label_column
        self.train, self.val, self.test = train, val, test

    def read(self, split: Split) -> LabeledFiles | None:
        if (part := self._part(split)) is None:
            return None
        for column in (self.image_column, self.label_column):
            if column not in part.column_names:
                raise LongTailError(f"{self.path} has no column {column!r}. {did_you_mean(column, part.column_names)}")
        kind = type(part.features[self.label_column]).__name__
        if kind not in ("ClassLabel", "Value"):
            raise LongTailError(f"Column {self.label_column!r} of {self.path} is {kind}, expected one label per image.")
        labels = part.select_columns([self.label_column]).with_format(None)[self.label_column][:]
        images = _Column(_undecoded(part, self.image_column), self.image_column)
        source = f"the split {part.split} of {self.path}" if part.split else self.path
        make = partial(ImageBytes, images, name=self.path, max_pixels=self.max_pixels)
        return LabeledFiles(source, _plain(labels, source), make)

    def named_classes(self) -> NamedClasses | None:
        part = self._part("train")
        assert part is not None
        names = getattr(part.features[self.label_column], "names", None)
        return None if names is None else NamedClasses(range(len(names)), names)

    def _part(self, split: Split) -> Any | None:
        wanted = {"train": self.train, "val": self.val, "test": self.test}[split]
        if wanted is None:
            return None
        usual = {"train": "train", "val": "validation", "test": "test"}[split]
        names = (wanted, *_OTHER_NAMES[split]) if wanted == usual else (wanted,)
        found = next((name for name in names if name in self._loaded_splits), None)
        if found is None and (split == "train" or wanted != usual):
            raise LongTailError(f"{self.path} has no split {wanted!r}. {did_you_mean(wanted, self._loaded_splits)}")
        return None if found is None else self._loaded_splits[found]

    @cached_property
    def _loaded_splits(self) -> Mapping[str, Any]:
        datasets = _import_datasets()
        local = Path(self.path).expanduser()
        try:
            if any((local / file).is_file() for file in ("dataset_dict.json", "state.json")):
                loaded = datasets.load_from_disk(str(local))
            else:
                path = str(local) if local.is_dir() else self.path
                loaded = datasets.load_dataset(path, self.name, data_dir=self.data_dir, revision=self.revision)
        except Exception as error:  # the library, the Hub and the network raise dozens of types
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise LongTailError(
                f"The data set {self.path!r} cannot be loaded ({reason}): is it a name on the Hub or a folder here?"
            ) from error
        return loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}


class _Column:
    """One column of a data set, row by row."""

    def __init__(self, part: Any, column: str) -> None:
        self.part, self.column = part, column

    def __getitem__(self, row: int) -> Any:
        return self.part[row][self.column]


def _undecoded(part: Any, column: str) -> Any:
    """Only the images, as the bytes or the path of their files."""
    part = part.select_columns([column]).with_format(None)
    image = _import_datasets().Image
    return part.cast_column(column, image(decode=False)) if isinstance(part.features[column], image) else part


def _plain(labels: Sequence[Any], source: str) -> Sequence[str] | np.ndarray:
    if not len(labels):
        raise LongTailError(f"{source} is empty.")
    if any(not isinstance(label, (int, str)) for label in labels):
        wrong = next(label for label in labels if not isinstance(label, (int, str)))
        raise LongTailError(f"{source} has labels such as {wrong!r}, expected one number or name per image.")
    return np.array(labels) if isinstance(labels[0], int) else [str(label) for label in labels]


def _import_datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise LongTailError(
            "HuggingFaceLT needs the datasets library: pip install 'longtail-lightning[huggingface]'."
        ) from error
    return datasets
