"""Several data modules as one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.joined_images import JoinedImages
from longtail_lightning.datasets.long_tail import SubsetId
from longtail_lightning.datasets.presets import TransformsLike

SharedClasses = Literal["shared", "offset", "merged"] | Mapping[str, str]


class ConcatLT(LongTailDataModule):
    """Join the splits of several data modules, such as training sets from several sources.

    Each part keeps its own long tail, held-out images and root; its settings for batches, sampling and
    transforms are replaced by those given here. Class counts add up. A split that only some parts have
    consists of theirs.

    Args:
        parts: the data modules.
        classes: `"shared"`: all parts have the same classes in the same order; `"offset"`: no class is
            shared, those of later parts come after those of earlier ones; `"merged"`: classes of the same
            name are one; or a mapping from class names of the parts to new ones, which are then merged.
        names: what the names of items begin with, one per part; their numbers by default.
        transforms: transforms, or the name of a preset; those of the first part when None.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> from longtail_lightning.data import ArrayLT
        >>> images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> pets = ArrayLT((images, [0, 0, 0, 1]), class_names=["cat", "dog"])
        >>> farm = ArrayLT((images, [0, 1, 1, 1]), class_names=["dog", "cow"])
        >>> data = ConcatLT([pets, farm], classes="merged")
        >>> data.class_names, data.class_counts
        (['cat', 'dog', 'cow'], ClassCounts([3, 2, 3]))
        >>> data.dataset("train").file(5)
        '1/1'
    """

    def __init__(
        self,
        parts: Sequence[LongTailDataModule],
        *,
        classes: SharedClasses = "shared",
        names: Sequence[str] | None = None,
        transforms: TransformsLike | None = None,
        **options: Unpack[DataOptions],
    ) -> None:
        if not parts:
            raise LongTailError("ConcatLT got no parts: give at least one data module.")
        if names is not None and len(set(names)) != len(parts):
            raise LongTailError(f"names={list(names)} must be {len(parts)} different names, one per part.")
        super().__init__(
            transforms=transforms if transforms is not None else parts[0].transforms,
            **options,
        )
        self.parts = list(parts)
        self.classes = classes
        self.names = list(names) if names is not None else [str(number) for number in range(len(parts))]
        self._of_first = transforms is None
        if self._of_first:
            self.mean, self.std = parts[0].mean, parts[0].std

    def prepare_data(self) -> None:
        for part in self.parts:
            part.prepare_data()

    def setup(self, stage: str) -> None:
        for part in self.parts:
            part.setup(stage)
        super().setup(stage)

    def build(self, split: Split) -> JoinedImages | None:
        found = [(place, part.dataset(split)) for place, part in enumerate(self.parts)]
        there = [(place, dataset) for place, dataset in found if dataset is not None]
        if not there:
            return None
        _, tables = self._joined
        return JoinedImages(
            [dataset for _, dataset in there],
            [tables[place] for place, _ in there],
            names=[self.names[place] for place, _ in there],
        )

    def build_class_names(self) -> list[str]:
        return self._joined[0]

    @property
    def num_classes(self) -> int:
        return len(self._joined[0])

    def augment_batch(self, images: Tensor, keys: np.ndarray) -> Tensor:
        # Not its transforms alone: a data module may augment by itself.
        return self.parts[0].augment_batch(images, keys) if self._of_first else super().augment_batch(images, keys)

    @property
    def subset_id(self) -> SubsetId | None:
        """The subsets of the parts as one; None when all of them are used whole."""
        own = super().subset_id
        known = [str(subset) for subset in (*(part.subset_id for part in self.parts), own) if subset is not None]
        if len(known) == (own is not None):
            return own
        checksum = hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]
        return SubsetId(" + ".join(text.partition(",")[0] for text in known), 0, self.class_counts.total, checksum)

    @property
    def held_out(self) -> str | None:
        told = [f"part {place}: {part.held_out}" for place, part in enumerate(self.parts) if part.held_out]
        own = super().held_out
        return "; ".join([*told, own] if own else told) or None

    @cached_property
    def _joined(self) -> tuple[list[str], list[Tensor]]:
        """The class names, and for each part a table from its classes to these."""
        lists = [part.class_names for part in self.parts]
        if self.classes == "offset":
            starts = [sum(map(len, lists[:place])) for place in range(len(lists))]
            return [name for own in lists for name in own], [
                torch.arange(len(own)) + start for own, start in zip(lists, starts)
            ]
        if self.classes == "shared":
            for place, own in enumerate(lists):
                if own != lists[0]:
                    raise LongTailError(_difference(lists[0], own, self.names[place]))
            return lists[0], [torch.arange(len(own)) for own in lists]
        renamed = self._renamed(lists)
        merged = list(dict.fromkeys(name for own in renamed for name in own))
        index = {name: label for label, name in enumerate(merged)}
        return merged, [torch.tensor([index[name] for name in own]) for own in renamed]

    def _renamed(self, lists: list[list[str]]) -> list[list[str]]:
        if self.classes == "merged":
            return lists
        if not isinstance(self.classes, Mapping):
            raise LongTailError(
                f"classes={self.classes!r}: choose 'shared', 'offset' or 'merged', or map class names to new ones."
            )
        known = {name for own in lists for name in own}
        if unknown := [name for name in self.classes if name not in known]:
            raise LongTailError(f"No part has a class {unknown[0]!r}. {did_you_mean(unknown[0], sorted(known))}")
        return [[self.classes.get(name, name) for name in own] for own in lists]


def _difference(first: list[str], other: list[str], part: str) -> str:
    if sorted(first) == sorted(other):
        return f"Part {part} has the classes of the first part in another order: use classes='merged'."
    absent = [name for name in first if name not in other] or [name for name in other if name not in first]
    shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    return (
        f"Part {part} has {len(other)} classes and the first part {len(first)}, and they differ ({shown}): "
        "use classes='merged' to join them by name, or 'offset' to keep all of them apart."
    )
