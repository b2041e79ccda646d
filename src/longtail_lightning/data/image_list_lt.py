"""Benchmarks that come as text lists: ImageNet-LT, Places-LT, and one's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import Unpack

from longtail_lightning.data._class_numbering import LabeledFiles
from longtail_lightning.data._file_checks import data_folder
from longtail_lightning.data._file_datamodule import FileDataModule
from longtail_lightning.data.datamodule import Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.decode import MAX_PIXELS
from longtail_lightning.datasets.image_list import ImageList
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.read_class_names import ClassNamesLike
from longtail_lightning.datasets.read_image_list import read_image_list
from longtail_lightning.datasets.read_text import find_file, shown

LAYOUT = """
root/
  train/abbey/1.jpg      the paths of the lists, for example `train/abbey/1.jpg 0`, start here
  val/abbey/2.jpg
"""


class ImageListLT(FileDataModule):
    r"""Images that text files list, one `path label` per line: ImageNet-LT, Places-LT, or your own.

    Path and label are parted by a space, a tab or a comma; the label is the last field, so paths may
    hold spaces. The test list is never used for validation.

    Args:
        root: the folder that the paths in the lists start from.
        train_list: the training list, relative to where you stand or to `root`; may end in `.gz`.
        val_list: the validation list.
        test_list: the test list.
        class_names: a list, or a file that `read_class_names` understands; by default the folders of the
            images when each class has one of its own, else numbers.
        relabel: number the classes anew, for lists whose labels start at 1 or leave numbers out.
        check_files: look whether every listed file exists, before training starts.
        transforms: a preset (`"imagenet"`, `"places"`, ...) or `ResizedCropTransforms(...)`.
        max_pixels: images with more pixels are not decoded, see `decode_image`.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "train.txt")
        ...     _ = file.write_text("train/abbey/1.jpg 0\ntrain/abbey/2.jpg 0\ntrain/bar/3.jpg 1\n")
        ...     dm = ImageListLT(folder, "train.txt")
        ...     dm.class_counts, dm.class_names
        (ClassCounts([2, 1]), ['abbey', 'bar'])
    """

    no_test = "pass test_list"

    def __init__(
        self,
        root: str | Path,
        train_list: str | Path,
        val_list: str | Path | None = None,
        test_list: str | Path | None = None,
        *,
        class_names: ClassNamesLike | None = None,
        relabel: bool = False,
        check_files: bool = True,
        transforms: TransformsLike = "imagenet",
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(
            root,
            class_names=class_names,
            relabel=relabel,
            check_files=check_files,
            transforms=transforms,
            max_pixels=max_pixels,
            **options,
        )
        self.train_list, self.val_list, self.test_list = train_list, val_list, test_list

    def read(self, split: Split) -> LabeledFiles | None:
        file = {"train": self.train_list, "val": self.val_list, "test": self.test_list}[split]
        if file is None:
            return None
        return listing(find_file(file, self.root, f"{split}_list"), self.root, self.max_pixels)

    def setup(self, stage: str) -> None:
        # Not earlier: class counts need the lists alone, and must work where the images are missing.
        data_folder(self.root, LAYOUT)
        super().setup(stage)

    def build_class_names(self) -> list[str]:
        names, folders = super().build_class_names(), folder_names(self._train[0])
        if self._given_names is None:
            return [folders.get(c, name) for c, name in enumerate(names)]
        # Some published lists of names are in another order than the labels, for example of Places-LT.
        wrong = [c for c, folder in folders.items() if folder != names[c] and folder in names]
        if wrong:
            rank_zero_warn(
                f"Class names differ from those of the folders ({len(wrong)} in all): class {wrong[0]} is called "
                f"{shown(names[wrong[0]])!r}, and its images lie in {shown(folders[wrong[0]])!r}."
            )
        return names


def listing(file: Path, root: Path, max_pixels: int = MAX_PIXELS) -> LabeledFiles:
    """The images of a list.

    Args:
        file: lines `path label`.
        root: the folder that the paths start from.
        max_pixels: the largest image that is decoded.
    """
    files, labels = read_image_list(file)
    return LabeledFiles(file.name, labels, partial(ImageList, files, root=root, max_pixels=max_pixels))


def folder_names(images: object) -> dict[int, str]:
    """The folder of each class, when no two classes share one and no class has two; else nothing."""
    if not isinstance(images, ImageList):
        return {}
    names: dict[int, str] = {}
    for index, label in enumerate(images.labels.tolist()):
        folder = images.file(index).rpartition("/")[0].rpartition("/")[2]
        if not folder or names.setdefault(label, folder) != folder:
            return {}
    return names if len(set(names.values())) == len(names) else {}
