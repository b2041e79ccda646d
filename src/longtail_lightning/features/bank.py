"""The feature bank: the features that an encoder gave for a whole split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import locked
from longtail_lightning._number_range import require_whole
from longtail_lightning._whole_numbers import require_order
from longtail_lightning.counts import ClassCounts, require_possible
from longtail_lightning.features._bank_files import arrays_of, header_of, open_bank
from longtail_lightning.features._checks import as_bank_labels, as_rows, as_views, require_finite, require_one_each
from longtail_lightning.features._fingerprint import encoder_fingerprint, of_a_part, require_equal
from longtail_lightning.features._source import source_of
from longtail_lightning.features._storage import write_bank
from longtail_lightning.features._strings import Column, Integers, column_of


@dataclass(frozen=True, eq=False, repr=False)
class FeatureBank:
    r"""Features of the inputs of a split, with labels, ids and texts, in memory or mapped from a folder.

    Whatever needs the backbone once and the classifier often works on a bank: re-training, class
    means, \(\tau\)-normalization, retrieval. Several augmented views of each input can be kept;
    `features` is the first of them. All features are finite: a bank with NaN cannot be made.

    A bank never changes; its methods return new banks. Labels may be absent (pictures from the web),
    one class index per input, or multi-hot; what needs labels says so.

    On disk a bank is a folder of npy files and one of JSON, never pickle. Features keep their type;
    `float16` halves the file and costs features nothing that matters: their relative error is below
    1/2000, and for values below 6e-5 the absolute one below 3e-8. (npy has no bfloat16, which would be
    eight times as coarse; bfloat16 becomes `float32`, exactly.)

    Banks are made by `from_arrays`, `load` and `extract_features`.

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.randn(3, 8), [0, 2, 0], ids=["a.jpg", "b.jpg", "c.jpg"])
        >>> len(bank), bank.num_features, bank.class_counts
        (3, 8, ClassCounts([2, 0, 1]))
        >>> from tempfile import mkdtemp
        >>> FeatureBank.load(bank.save(mkdtemp())).subset([1]).ids[0]
        'b.jpg'
    """

    views: Tensor
    """`(views, inputs, features)`."""
    labels: Tensor | None
    """Class index of each input, int64; or `(inputs, classes)` of 0 and 1; or None."""
    ids: Sequence[Any]
    """What each input is called, strings or whole numbers; its number when nothing was given."""
    texts: Sequence[str] | None
    """A text for each input."""
    num_classes: int
    """How many classes there are; 0 when nobody knows."""
    given_names: Sequence[str] | None = None
    """Names of the classes, when they were given."""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    """What made the features and of what, see `check`."""
    path: Path | None = None
    """Folder that the bank is mapped from."""

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        labels: Any = None,
        ids: Any = None,
        texts: Any = None,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        fingerprint: dict[str, Any] | None = None,
    ) -> FeatureBank:
        """Make a bank of what is in memory.

        Args:
            features: `(inputs, features)`, or `(views, inputs, features)`; tensor or array. They may be many, so they
                are not copied: leave them as they are from here on.
            labels: class index of each input, or a row of 0 and 1 per input; none by default.
            ids: what each input is called, strings or whole numbers; its number by default.
            texts: a text for each input.
            num_classes: how many classes there are; as the labels say when not given.
            class_names: one name per class; the numbers by default.
            fingerprint: what made the features and of what, see `check`.
        """
        views = as_views(features)
        for name, values in {"labels": labels, "ids": ids, "texts": texts, "class_names": class_names}.items():
            if values is not None:
                require_order(values, name)
        require_possible(num_classes)
        names = None if class_names is None else tuple(map(str, class_names))
        if num_classes is None and names is not None:
            num_classes = len(names)
        if labels is not None:
            labels = as_bank_labels(labels, num_classes)
            num_classes = num_classes or (labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1)
        require_one_each(views.shape[1], "inputs", labels=labels, ids=ids, texts=texts)
        require_one_each(num_classes or 0, "classes", class_names=names)
        ids = range(views.shape[1]) if ids is None else column_of(ids, "ids")
        texts = None if texts is None else column_of(texts, "texts")
        require_finite(views, ids)
        return cls(views, labels, ids, texts, num_classes or 0, names, deepcopy(fingerprint or {}))

    @property
    def features(self) -> Tensor:
        """`(inputs, features)`: those of the first view."""
        return self.views[0]

    def view(self, index: int) -> Tensor:
        """`(inputs, features)` of a view; after the last view, counting starts again at the first."""
        return self.views[index % self.num_views]

    @property
    def num_views(self) -> int:
        """How many times each input was seen, differently augmented each time."""
        return self.views.shape[0]

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.views.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the features."""
        return self.views.dtype

    @property
    def class_names(self) -> list[str]:
        """One name per class."""
        return [str(c) for c in range(self.num_classes)] if self.given_names is None else list(self.given_names)

    @property
    def multi_hot(self) -> bool:
        """Whether an input may have several labels."""
        return self.labels is not None and self.labels.ndim == 2

    @cached_property
    def class_counts(self) -> ClassCounts:
        """Inputs of each class; one with several labels counts for each of them."""
        labels = self.require_labels("class_counts")
        if labels.ndim == 2:
            return ClassCounts(labels.sum(0, dtype=torch.int64))
        return ClassCounts.from_labels(labels, self.num_classes)

    def __len__(self) -> int:
        return self.views.shape[1]

    def __repr__(self) -> str:
        views = f", {self.num_views} views" if self.num_views > 1 else ""
        kind = str(self.dtype).removeprefix("torch.")
        labels = f"{self.num_classes} classes{', multi-hot' if self.multi_hot else ''}"
        labels = labels if self.labels is not None else "no labels"
        return f"FeatureBank({len(self)} x {self.num_features} {kind}{views}, {labels})"

    def batches(
        self, size: int = 8192, *, view: int = 0, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Iterator[tuple[Tensor, Any]]:
        """Features and labels in order, `size` inputs at a time; a mapped bank is read as it goes.

        Args:
            size: inputs per batch.
            view: which view.
            device: where the batches go.
            dtype: type of the features that are handed out. Labels are None where the bank has none.
        """
        require_whole(self, "size", size, 1)
        features = self.view(view)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            labels = None if self.labels is None else self.labels[part].to(device)
            yield features[part].to(device).to(dtype), labels

    def subset(self, indices: Any) -> FeatureBank:
        """A bank of these inputs, in this order and in memory; the classes stay.

        Args:
            indices: numbers of the inputs, or one truth value per input.
        """
        chosen = as_rows(indices, len(self))
        rows = chosen.numpy()
        return replace(
            self,
            views=self.views[:, chosen],
            labels=None if self.labels is None else self.labels[chosen],
            ids=self.ids.take(rows) if isinstance(self.ids, Column) else Integers(rows),
            texts=self.texts.take(rows) if isinstance(self.texts, Column) else None,
            fingerprint=of_a_part(self.fingerprint, len(rows)),
            path=None,
        )

    def with_num_classes(self, num_classes: int) -> FeatureBank:
        """The same features with more classes, the last of them without an input; names of classes are dropped.

        Args:
            num_classes: how many classes there are.
        """
        if num_classes == self.num_classes:
            return self
        if num_classes < self.num_classes:
            raise LongTailError(
                f"The bank has {self.num_classes} classes, which cannot become {num_classes}: choose the inputs of "
                "the classes that stay with subset."
            )
        labels = F.pad(self.labels, (0, num_classes - self.num_classes)) if self.multi_hot else self.labels  # type: ignore[arg-type]
        return replace(self, num_classes=num_classes, given_names=None, labels=labels)

    def require_labels(self, what: str) -> Tensor:
        """The labels; refuse, in the name of `what`, a bank that has none."""
        if self.labels is None:
            raise LongTailError(f"{what} needs labels, and the bank has none: make it with labels=...")
        return self.labels

    def require_single_labels(self, what: str) -> Tensor:
        """The class index of each input; refuse, in the name of `what`, a bank without labels or with several."""
        if self.multi_hot:
            raise LongTailError(
                f"{what} needs one label per input, but the labels of the bank are multi-hot: take the inputs of "
                "one class each, or fit_head with a multi-label loss."
            )
        return self.require_labels(what)

    def require_all_classes(self, what: str) -> None:
        """Refuse, in the name of `what`, a bank in which a class has no input."""
        if told := self.missing_classes:
            raise LongTailError(
                f"{what} needs at least one feature of each class, but the bank has none of {told}: "
                "add inputs of them, or leave the classes out."
            )

    @property
    def missing_classes(self) -> str:
        """In words, which classes have no input; empty when all have one."""
        missing = (self.class_counts.tensor == 0).nonzero().flatten().tolist()
        names = ", ".join(self.class_names[c] for c in missing[:3])
        listed = f"{len(missing)} of {self.num_classes} classes ({names}{', ...' if len(missing) > 3 else ''})"
        return listed if missing else ""

    def save(self, path: str | Path) -> Path:
        """Write the bank to a folder. Stopped anywhere, the folder is the bank that it was before, or this one.

        Args:
            path: the folder; a bank that is there is replaced.
        """
        folder = Path(path)
        if folder.is_file():
            raise LongTailError(f"{folder} is a file, a bank is a folder: give another path.")
        with locked(folder):
            write_bank(folder, {"features": self.views.numpy(), **arrays_of(self)}, header_of(self))
        return folder

    @classmethod
    def load(
        cls, path: str | Path, *, mmap: bool = True, verify: bool = False, expect: dict[str, Any] | None = None
    ) -> FeatureBank:
        """Open a bank. Labels, shapes, names and counts are always checked; the checksums of the files only on demand.

        Args:
            path: its folder.
            mmap: read features, labels, ids and texts from the files as they are needed, instead of all at once.
            verify: compare every file with the checksum that was written with it, which reads all of them.
            expect: the fingerprint that it must have, or the part of it that matters.
        """
        bank = cls(**open_bank(Path(path), mmap=mmap, verify=verify))
        if expect is not None:
            require_equal(expect, bank.fingerprint, f"The bank {bank.path}", "extract the features again")
        return bank

    def check(self, *, encoder: nn.Module | None = None, data: Any = None) -> FeatureBank:
        """Refuse the bank if another encoder or other data made it.

        Args:
            encoder: the encoder whose features are wanted.
            data: the data module or loader whose features are wanted.
        """
        expect: dict[str, Any] = {}
        if encoder is not None:
            expect["encoder"] = encoder_fingerprint(encoder)
        if data is not None:
            expect["data"] = source_of(data, self.fingerprint.get("data", {}).get("split")).fingerprint()
        require_equal(expect, self.fingerprint, f"The bank {self.path or ''}".rstrip(), "extract the features again")
        return self
