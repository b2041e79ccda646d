"""iNaturalist 2017, 2018, 2019 and 2021, as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.data._class_numbering import LabeledFiles, NamedClasses
from longtail_lightning.data._file_checks import data_folder
from longtail_lightning.data._file_datamodule import FileDataModule
from longtail_lightning.data.datamodule import Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.decode import MAX_PIXELS
from longtail_lightning.datasets.image_list import ImageList
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.read_class_names import ClassNamesLike
from longtail_lightning.datasets.read_coco import files_and_labels, read_coco
from longtail_lightning.datasets.read_image_list import read_image_list
from longtail_lightning.datasets.read_text import find_file, parse_json, read_text, suffix_of

LAYOUT = """
root/
  train2018.json, val2018.json             2021: train.json, train_mini.json, val.json
  categories.json                          2018 and 2019: the names of the species
  train_val2018/Aves/2761/0123abcd.jpg     2017: train_val_images/, 2021: train/ and val/
"""
_VERSIONS = (2017, 2018, 2019, 2021)


class INaturalist(FileDataModule):
    """iNaturalist 2017 (5,089 species), 2018 (8,142), 2019 (1,010) or 2021 (10,000).

    Papers report on the official validation images, since the labels of the test images are not
    public. So these are the test split here, and validation comes from the training images, by
    `val_split`: no epoch or setting is chosen on the images you report. Classes are the categories in
    the order of their ids.

    Args:
        root: the folder that holds the json files and the image folders.
        version: the year, which tells the names of the files.
        train: `"train"`, `"train_mini"` (2021), or a file: the official json, or a list with `path label` lines.
        val: a file likewise, None for images held out by `val_split`.
        test: `"val"`, the official validation images, or a file; None for no test split.
        level: the field of the categories that makes the classes, for example `"supercategory"` or (2021)
            `"genus"`; by default each category is a class.
        class_names: a list, or a file that `read_class_names` understands; by default the names in the json.
        check_files: look whether every listed file exists, before training starts.
        transforms: a preset or `ResizedCropTransforms(...)`.
        max_pixels: images with more pixels are not decoded, see `decode_image`.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> import json
        >>> content = {
        ...     "images": [{"id": 7, "file_name": "train_val2018/Aves/1/a.jpg"}],
        ...     "annotations": [{"image_id": 7, "category_id": 1}],
        ...     "categories": [{"id": 1, "name": "Larus argentatus", "supercategory": "Aves"}],
        ... }
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "train2018.json").write_text(json.dumps(content))
        ...     dm = INaturalist(folder, 2018)
        ...     dm.class_counts, dm.class_names
        (ClassCounts([1]), ['Larus argentatus'])
    """

    no_test = "pass test"

    def __init__(
        self,
        root: str | Path,
        version: Literal[2017, 2018, 2019, 2021] = 2018,
        *,
        train: str | Path = "train",
        val: str | Path | None = None,
        test: str | Path | None = "val",
        level: str | None = None,
        class_names: ClassNamesLike | None = None,
        check_files: bool = True,
        transforms: TransformsLike = "inaturalist",
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(
            root,
            class_names=class_names,
            check_files=check_files,
            transforms=transforms,
            max_pixels=max_pixels,
            **options,
        )
        if str(version) not in map(str, _VERSIONS):
            raise LongTailError(f"version={version!r}: choose one of {', '.join(map(str, _VERSIONS))}.")
        if val is not None and str(val) == str(test):
            raise LongTailError(
                f"val and test are both {val}: choosing an epoch on the images you report makes the result too good, "
                "so hold out training images with val_split=0.1, or set test=null."
            )
        self.version = version
        self.train, self.val, self.test = train, val, test
        self.level = level
        self._annotated: list[Mapping[str, Any]] = []  # the categories of the training json

    def read(self, split: Split) -> LabeledFiles | None:
        wanted = {"train": self.train, "val": self.val, "test": self.test}[split]
        if wanted is None:
            return None
        file = self._file(str(wanted), split)
        if suffix_of(file) != ".json":
            files, ids = read_image_list(file)
        else:
            content = read_coco(file)
            files, ids = files_and_labels(content, file)
            if lacking := len(content["images"]) - len(files):
                rank_zero_warn(f"{lacking} of {len(content['images'])} images of {file.name} have no label, left out.")
            if split == "train":
                self._annotated = content["categories"]
        labels = ids if self.level is None else self._levels(ids, file)
        make = partial(ImageList, files, root=self.root, max_pixels=self.max_pixels)
        return LabeledFiles(file.name, labels, make)

    def named_classes(self) -> NamedClasses | None:
        categories = self._categories
        if not categories:
            return None
        if self.level is not None:
            names = sorted({str(category[self.level]) for category in categories.values()})
            return NamedClasses(names, names)
        return NamedClasses(list(categories), [str(category["name"]) for category in categories.values()])

    @cached_property
    def _categories(self) -> dict[int, Mapping[str, Any]]:
        """Categories by id, in the order of the ids."""
        found = self._annotated
        file = self.root / "categories.json"
        if file.is_file():
            named = parse_json(read_text(file), file)
            # In 2018 and 2019 the names were published later than the annotations, which hold numbers for them.
            if not found or {c["id"] for c in found} <= {c["id"] for c in named}:
                ids = {c["id"] for c in found}
                found = [c for c in named if not ids or c["id"] in ids]
        return {category["id"]: category for category in sorted(found, key=lambda c: c["id"])}

    def _levels(self, ids: np.ndarray, file: Path) -> Sequence[str]:
        categories = self._categories
        if not categories:
            raise LongTailError(
                f"level={self.level!r} needs categories, which {file.name} lacks: put categories.json into {self.root}."
            )
        fields = next(iter(categories.values()))
        if self.level not in fields:
            raise LongTailError(f"The categories have no {self.level!r}. {did_you_mean(str(self.level), fields)}")
        return [str(categories.get(number, {}).get(str(self.level), number)) for number in ids.tolist()]

    def _file(self, wanted: str, split: Split) -> Path:
        if Path(wanted).suffix:
            return find_file(wanted, self.root, split)
        folder = data_folder(self.root, LAYOUT)
        year = str(self.version)
        names = [f"{wanted}{year}.json", f"{wanted}.json", f"iNaturalist{year[2:]}_{wanted}.txt"]
        for name in names:
            for place in (folder / name, folder / f"{name}.gz", folder / "annotations" / name):
                if place.is_file():
                    return place
        raise LongTailError(
            f"{folder} holds none of {', '.join(names)}, the files of {split}={wanted!r}: unpack the annotations "
            f"there, or pass a file. Expected:\n{LAYOUT.strip()}"
        )

    def setup(self, stage: str) -> None:
        data_folder(self.root, LAYOUT)
        super().setup(stage)
