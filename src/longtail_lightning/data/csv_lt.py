"""Tables of images and labels: CSV, TSV and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError
from longtail_lightning.data._class_numbering import LabeledFiles, NamedClasses
from longtail_lightning.data._file_checks import data_folder
from longtail_lightning.data._file_datamodule import FileDataModule
from longtail_lightning.data.datamodule import Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.decode import MAX_PIXELS
from longtail_lightning.datasets.image_bytes import ImageBytes
from longtail_lightning.datasets.image_list import ImageList
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.read_class_names import ClassNamesLike
from longtail_lightning.datasets.read_table import (
    Column,
    Table,
    label_values,
    parquet_class_names,
    read_table,
    rows_of_split,
)
from longtail_lightning.datasets.read_text import find_file

LAYOUT = """
root/
  photos/1.jpg      the paths of the table start here
  photos/2.jpg
"""


class CSVLT(FileDataModule):
    r"""Images and labels in a table: `.csv`, `.tsv` (both also `.gz`) or `.parquet`.

    Labels are names or numbers, images are paths or, in Parquet, the bytes of image files (also as the
    `datasets` library stores them). Splits are files of their own, or the values of a column. Columns that
    are given by number may do without a header.

    Args:
        file: the table, or the one with the training images.
        root: the folder that the paths start from; the folder of `file` when None.
        val_file: table of the validation images.
        test_file: table of the test images.
        path_column: column of the paths, or of the bytes: its name, or its number from 0.
        label_column: column of the labels.
        split_column: column that says `train`, `val` or `test`, when one file holds all of them.
        suffix: added to each path, for tables that leave `.jpg` out.
        class_names: a list, or a file that `read_class_names` understands. Names that are labels set the
            order of the classes; others are taken in the order of the labels.
        relabel: number the classes anew, for labels that are numbers with a meaning of their own.
        check_files: look whether every file exists, before training starts.
        transforms: a preset (`"imagenet"`, `"clip"`, ...) or `ResizedCropTransforms(...)`.
        max_pixels: images with more pixels are not decoded, see `decode_image`.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "animals.csv")
        ...     _ = file.write_text("path,label,split\n1.jpg,cat,train\n2.jpg,dog,train\n3.jpg,dog,test\n")
        ...     dm = CSVLT(file, split_column="split")
        ...     dm.class_counts, dm.class_names, dm.labels("test").tolist()
        (ClassCounts([1, 1]), ['cat', 'dog'], [1])
    """

    no_test = "pass test_file, or split_column and rows called test"

    def __init__(
        self,
        file: str | Path,
        *,
        root: str | Path | None = None,
        val_file: str | Path | None = None,
        test_file: str | Path | None = None,
        path_column: Column = "path",
        label_column: Column = "label",
        split_column: Column | None = None,
        suffix: str = "",
        class_names: ClassNamesLike | None = None,
        relabel: bool = False,
        check_files: bool = True,
        transforms: TransformsLike = "imagenet",
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(
            root if root is not None else Path(file).parent,
            class_names=class_names,
            relabel=relabel,
            check_files=check_files,
            transforms=transforms,
            max_pixels=max_pixels,
            **options,
        )
        if split_column is not None and (val_file is not None or test_file is not None):
            raise LongTailError("split_column is for one file with all splits: drop it, or val_file and test_file.")
        self.file, self.val_file, self.test_file = file, val_file, test_file
        self.path_column, self.label_column, self.split_column = path_column, label_column, split_column
        self.suffix = suffix

    def read(self, split: Split) -> LabeledFiles | None:
        given: str | Path | None = self.file
        if self.split_column is None:
            given = {"train": self.file, "val": self.val_file, "test": self.test_file}[split]
        if given is None:
            return None
        file = find_file(given, self.root, "the table")
        table = self._whole if self.split_column is not None else self._table(file)
        rows = rows_of_split(table, split, file)
        if not rows:
            return None
        labels = label_values(table, rows, file, as_names=split != "train" and isinstance(self._classes.keys[0], str))
        return LabeledFiles(file.name, labels, lambda indices: self._dataset(table, rows, indices, file))

    @cached_property
    def _whole(self) -> Table:
        return self._table(find_file(self.file, self.root, "the table"))

    def _table(self, file: Path) -> Table:
        return read_table(file, self.path_column, self.label_column, self.split_column)

    def _dataset(self, table: Table, rows: Sequence[int], indices: Tensor, file: Path) -> Dataset[Any]:
        if table.binary:
            return ImageBytes(
                table.images, indices, rows=rows, root=self.root, name=file.name, max_pixels=self.max_pixels
            )
        files = [f"{table.images[row]}{self.suffix}" for row in rows]
        return ImageList(files, indices, root=self.root, max_pixels=self.max_pixels)

    def named_classes(self) -> NamedClasses | None:
        names = parquet_class_names(find_file(self.file, self.root, "the table"), self.label_column)
        return None if names is None else NamedClasses(range(len(names)), names)

    def setup(self, stage: str) -> None:
        data_folder(self.root, LAYOUT)
        super().setup(stage)
