"""The base of the data modules that read files: class numbers, names, and checks before training."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import Dataset
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts
from longtail_lightning.data._class_numbering import ClassNumbering, LabeledFiles, NamedClasses
from longtail_lightning.data._file_checks import require_files
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.decode import MAX_PIXELS
from longtail_lightning.datasets.image_list import ImageList
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.loader import ResumableLoader
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.read_class_names import ClassNamesLike, as_class_names
from longtail_lightning.datasets.read_text import first_few, shown


class FileDataModule(LongTailDataModule):
    """Base of the data modules that read files: a child's `read(split)` gives the items and labels in the files.

    Labels may be numbers or names. The training split says which classes there are; another split
    with a class that it lacks is refused. Everything that can be checked without decoding an image
    is checked before training starts.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        class_names: ClassNamesLike | None,
        transforms: TransformsLike,
        relabel: bool = False,
        check_files: bool = False,
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(
            transforms=transforms,
            **options,
        )
        self.root = Path(root).expanduser()
        self.relabel = relabel
        self.check_files = check_files
        self.max_pixels = max_pixels
        self._given_names = class_names
        self._sources: dict[Split, str] = {}

    no_test: ClassVar[str] = ""
    """How to name a test split, where there is none."""

    @abstractmethod
    def read(self, split: Split) -> LabeledFiles | None:
        """Items and labels of a split as the files have them, or None when there is none."""

    def named_classes(self) -> NamedClasses | None:
        """The classes, when the data name them."""
        return None

    def build(self, split: Split) -> Dataset[Any] | None:
        if split == "train":
            return self._train[0]
        classes = self._classes  # first: other splits follow the training split
        listing = self._listing(split)
        return None if listing is None else listing.make(classes.encode(listing))

    def _listing(self, split: Split) -> LabeledFiles | None:
        listing = self.read(split)
        if listing is not None:
            self._sources[split] = listing.source
        return listing

    @cached_property
    def _train(self) -> tuple[Dataset[Any], ClassNumbering]:
        listing = self._listing("train")
        if listing is None:
            raise LongTailError(f"{type(self).__name__} has no training split.")
        names = None if self._given_names is None else as_class_names(self._given_names)
        classes = ClassNumbering(listing, stated=self.named_classes(), names=names, relabel=self.relabel)
        return listing.make(classes.encode(listing)), classes

    @property
    def _classes(self) -> ClassNumbering:
        return self._train[1]

    @property
    def num_classes(self) -> int:
        return len(self._classes.names)

    def build_class_names(self) -> list[str]:
        return list(self._classes.names)

    def item_name(self, index: int, split: Split = "test") -> str:
        return shown(super().item_name(index, split))

    def test_dataloader(self) -> ResumableLoader | list[Any]:
        self._require_test()
        return super().test_dataloader()

    def predict_dataloader(self) -> ResumableLoader | list[Any]:
        self._require_test()
        return super().predict_dataloader()

    def _require_test(self) -> None:
        if self.dataset("test") is None:
            raise LongTailError(f"{type(self).__name__} has no test split: {self.no_test}.")

    def setup(self, stage: str) -> None:
        """Check the files of all splits before training, then name the long-tailed subset."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        for split in splits if stage == "fit" else splits[1:2] if stage == "validate" else splits[2:]:
            self._check(split)
        if stage == "fit" and self.val_split and self._splits.whole("val") is None:
            self._tell_single_images()
        super().setup(stage)

    def _check(self, split: Split) -> None:
        dataset = self._train[0] if split == "train" else self._splits.whole(split)
        if self.check_files and isinstance(dataset, ImageList):
            require_files(dataset, self._sources[split])

    def _tell_single_images(self) -> None:
        full = self._splits.whole("train")
        assert full is not None
        counts = ClassCounts.from_labels(labels_of(full), self.num_classes).tensor
        if single := (counts == 1).nonzero().flatten().tolist():
            rank_zero_warn(
                f"Classes with a single image keep it for training, so validation lacks them: "
                f"{first_few(self.class_names[c] for c in single)} ({len(single)} in all)."
            )
