"""Several data modules as one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.data.datamodule import LongTailDataModule, SamplerCallable, Split
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.loader import item_name, whole_batch
from longtail_lightning.datasets.long_tail import Draw, Profile, SubsetId
from longtail_lightning.datasets.presets import TransformsLike, as_transforms

Classes = Literal["shared", "offset", "merged"] | Mapping[str, str]


class ConcatLT(LongTailDataModule):
    """Join the splits of several data modules, for memories and training sets that come from more than one source.

    Each part keeps its own long tail, held-out images and root; what it says about batches, sampling and
    transforms is replaced by what is said here. Class counts add up. A split that only some parts have
    consists of theirs.

    Args:
        parts: the data modules.
        classes: `"shared"`: all parts have the same classes in the same order; `"offset"`: no class is
            shared, those of later parts come after those of earlier ones; `"merged"`: classes of the same
            name are one; or a mapping from class names of the parts to new ones, which are then merged.
        names: what the names of items begin with, one per part; their numbers by default.
        transforms: transforms, or the name of a preset; those of the first part when None.
        batch_size: images per batch and process.
        num_workers: processes that load images.
        sampler: training sampler; instance-balanced by default.
        val_split: share of each training class to hold out, when no part has a validation split.
        imbalance_factor: make the joined training set long-tailed; None takes all of it.
        profile: shape of that tail: `"exp"`, `"step"`, `"pareto"`, or images per class.
        max_count: images of its class 0; the mean class size when None.
        subset_draw: whether that subset keeps `"random"` images of each class or its `"first"` ones.
        subset_seed: which random images it keeps.
        on_error: what training does at an image that cannot be decoded, `"raise"` or `"skip"`.
        seed: seed of order, split and augmentation.
        mixup_alpha: strength of mixup, 0 for none.
        cutmix_alpha: strength of cutmix, 0 for none.

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
        classes: Classes = "shared",
        names: Sequence[str] | None = None,
        transforms: TransformsLike | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        sampler: SamplerCallable | None = None,
        val_split: float = 0.0,
        imbalance_factor: float | None = None,
        profile: Profile = "exp",
        max_count: int | None = None,
        subset_draw: Draw = "random",
        subset_seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        seed: int = 0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
    ) -> None:
        if not parts:
            raise LongTailError("ConcatLT got no parts: give at least one data module.")
        if names is not None and len(set(names)) != len(parts):
            raise LongTailError(f"names={list(names)} must be {len(parts)} different names, one per part.")
        super().__init__(
            transforms=as_transforms(transforms) if transforms is not None else parts[0].transforms,
            batch_size=batch_size,
            num_workers=num_workers,
            sampler=sampler,
            val_split=val_split,
            imbalance_factor=imbalance_factor,
            profile=profile,
            max_count=max_count,
            subset_draw=subset_draw,
            subset_seed=subset_seed,
            on_error=on_error,
            seed=seed,
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
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

    def augment_batch(self, images: Tensor) -> Tensor:
        # Not its transforms alone: a data module may augment by itself.
        return self.parts[0].augment_batch(images) if self._of_first else super().augment_batch(images)

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
    def _held_out(self) -> str | None:
        told = [f"part {place}: {part._held_out}" for place, part in enumerate(self.parts) if part._held_out]
        own = super()._held_out
        return "; ".join([*told, own] if own else told) or None

    @cached_property
    def _joined(self) -> tuple[list[str], list[Tensor]]:
        """The class names, and for each part from its classes to these."""
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


class JoinedImages(Dataset[tuple[Any, int]]):
    """Data sets one after the other, whose labels go through a table each; items know where they come from.

    Args:
        parts: items `(image, label)`.
        tables: for each part, from its class indices to the new ones.
        names: one per part.
    """

    def __init__(self, parts: Sequence[Dataset[Any]], tables: Sequence[Tensor], *, names: Sequence[str]) -> None:
        self.parts = list(parts)
        self.names = list(names)
        own = [labels_of(part) for part in parts]
        self.labels = torch.cat([table[labels] for table, labels in zip(tables, own)])
        self._ends = torch.tensor([len(labels) for labels in own]).cumsum(0).tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        part, place = self.locate(index)
        return self.parts[part][place][0], int(self.labels[index])

    def locate(self, index: int) -> tuple[int, int]:
        """Part and place within it of item `index`."""
        part = bisect_right(self._ends, index)
        return part, index - (self._ends[part - 1] if part else 0)

    def file(self, index: int) -> str:
        """The name of the part, and what the item is called there."""
        part, place = self.locate(index)
        return f"{self.names[part]}/{item_name(self.parts[part], place)}"

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """Images and labels of many items at once, when all their parts can give that and the images fit together."""
        places: dict[int, list[tuple[int, int]]] = {}
        for position, index in enumerate(indices):
            part, place = self.locate(index)
            places.setdefault(part, []).append((position, place))
        pieces = []
        for part, own in places.items():
            if (whole := whole_batch(self.parts[part], [place for _, place in own])) is None:
                return None
            pieces.append(whole[0])
        if len({(piece.shape[1:], piece.dtype, piece.device) for piece in pieces}) != 1:
            return None
        order = torch.tensor([position for own in places.values() for position, _ in own]).argsort()
        images = torch.cat(pieces)
        return images.index_select(0, order.to(images.device)), self.labels[torch.as_tensor(indices)]


def _difference(first: list[str], other: list[str], part: str) -> str:
    if sorted(first) == sorted(other):
        return f"Part {part} has the classes of the first part in another order: use classes='merged'."
    absent = [name for name in first if name not in other] or [name for name in other if name not in first]
    shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    return (
        f"Part {part} has {len(other)} classes and the first part {len(first)}, and they differ ({shown}): "
        "use classes='merged' to join them by name, or 'offset' to keep all of them apart."
    )
