"""How many training images each class has: the first noun of the library.

Losses, samplers, heads and metrics are functions of these counts. They are made once, from labels
only, and accepted everywhere as a `ClassCounts`, a list or a 1-D tensor of integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number, require_whole
from longtail_lightning._whole_numbers import whole_numbers

Convention = Literal["kang", "oltr"]
MAX_CLASSES = 10_000_000
"""More classes are refused: no data set has as many, and a label of 10**18 would fill any memory."""
_MOST_IMAGES = 2.0**53  # float64 counts exactly up to here
ClassCountsLike = Union["ClassCounts", Sequence[int], Tensor]


class ClassCounts:
    """The number of training images of each class; index = class.

    A class without images is legal: its `prior` is 0, its `log_prior` is that of a class with one
    image (the rarest class one can have seen), so nothing becomes infinite, and samplers never
    draw it.

    Args:
        counts: one non-negative integer per class, at least one of them positive.

    Examples:
        >>> counts = ClassCounts([500, 50, 5, 0])
        >>> counts.num_classes, counts.total, counts.imbalance_factor
        (4, 555, 100.0)
        >>> ClassCounts.from_labels([0, 0, 2], num_classes=4)
        ClassCounts([2, 0, 1, 0])
        >>> counts.shots().few.tolist()
        [2, 3]
    """

    def __init__(self, counts: ClassCountsLike) -> None:
        values = counts.tensor if isinstance(counts, ClassCounts) else _counted(counts)
        if values.ndim != 1 or values.numel() == 0:
            raise LongTailError(
                f"class_counts must be one number per class (1-D), got shape {tuple(values.shape)}: "
                "pass [images of class 0, images of class 1, ...]."
            )
        if bool((values < 0).any()):
            worst = int(values.argmin())
            raise LongTailError(f"class_counts[{worst}] is {int(values[worst])}; a class has 0 or more images.")
        if (total := float(values.double().sum())) > _MOST_IMAGES:
            raise LongTailError(f"class_counts sum up to {total:.2g} images, more than can be counted: what are they?")
        if total == 0:
            raise LongTailError("class_counts are all 0: the training set is empty; check the data path or the labels.")
        self._counts = values.clone()

    @classmethod
    def from_labels(cls, labels: Sequence[int] | Tensor | Any, num_classes: int | None = None) -> ClassCounts:
        """Count a 1-D sequence of class indices.

        Args:
            labels: one class index per image (list, array or tensor).
            num_classes: how many classes there are; the largest label + 1 when not given.
        """
        values = as_labels(labels, num_classes)
        return cls(torch.bincount(values, minlength=num_classes or 0))

    # -- the counts themselves -------------------------------------------------------------------

    @property
    def tensor(self) -> Tensor:
        """The counts as an int64 tensor (a copy, so that nobody changes them by accident)."""
        return self._counts.clone()

    @property
    def num_classes(self) -> int:
        """Number of classes, the absent ones included."""
        return self._counts.numel()

    @property
    def total(self) -> int:
        """Number of training images."""
        return int(self._counts.sum())

    @property
    def imbalance_factor(self) -> float:
        """Largest count over smallest count, among the classes that have images."""
        present = self._counts[self._counts > 0]
        return int(present.max()) / int(present.min())

    def tolist(self) -> list[int]:
        """The counts as plain integers."""
        return [int(count) for count in self._counts]

    def __len__(self) -> int:
        return self.num_classes

    def __getitem__(self, index: int) -> int:
        return int(self._counts[index])

    def __iter__(self) -> Iterator[int]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassCounts) and torch.equal(self._counts, other._counts)

    def __hash__(self) -> int:
        return hash(tuple(self.tolist()))

    def __repr__(self) -> str:
        if self.num_classes <= 12:
            return f"ClassCounts({self.tolist()})"
        head = ", ".join(str(count) for count in self._counts[:3].tolist())
        tail = ", ".join(str(count) for count in self._counts[-3:].tolist())
        return f"ClassCounts([{head}, ..., {tail}], num_classes={self.num_classes}, total={self.total})"

    # -- what the papers compute from them -------------------------------------------------------

    def prior(self) -> Tensor:
        r"""Training frequency \(\pi_c = n_c / N\) of each class (float64, sums to 1)."""
        return self._counts.double() / self.total

    def log_prior(self) -> Tensor:
        r"""\(\log \pi_c\) (float64); a class without images counts as one with a single image."""
        return log_prior(self._counts, dtype=torch.float64)

    def effective_number(self, beta: float) -> Tensor:
        r"""\(E_c = (1 - \beta^{n_c}) / (1 - \beta)\) of Cui et al. 2019 (float64).

        0 for a class without images, \(n_c\) for \(\beta = 1\).
        """
        require_number("effective_number", "beta", beta, 0, 1)
        counts = self._counts.double()
        if beta == 1.0:
            return counts
        if beta == 0.0:
            return (counts > 0).double()
        # expm1 keeps all digits where beta^n is close to 1.
        return torch.expm1(counts * math.log(beta)) / (beta - 1.0)

    def sampling_probabilities(self, q: float) -> Tensor:
        r"""Probability \(p_c = n_c^q / \sum_i n_i^q\) of drawing each class (Decoupling, eq. 1).

        `q=1` is instance-balanced, `q=0.5` square-root, `q=0` class-balanced. A class without
        images is never drawn.
        """
        require_number("sampling_probabilities", "q", q)
        present = self._counts > 0
        log_counts = self._counts[present].double().log()
        # Relative to the most probable class, whose weight is 1, so that no power is too large for a number.
        weights = (q * (log_counts - (log_counts.max() if q >= 0 else log_counts.min()))).exp()
        probabilities = torch.zeros(self.num_classes, dtype=torch.float64)
        probabilities[present] = weights / weights.sum()
        return probabilities

    def shots(self, many: int = 100, few: int = 20, convention: Convention = "kang") -> ShotSplits:
        """Split the classes into many-, medium- and few-shot ones.

        Args:
            many: lower bound of the many-shot classes.
            few: upper bound of the few-shot classes.
            convention: `"kang"` (Decoupling and most papers): many > 100, few < 20.
                `"oltr"`: many >= 100, few <= 20.
        """
        return ShotSplits.from_counts(self, many=many, few=few, convention=convention)


@dataclass(frozen=True, eq=False)
class ShotSplits:
    """Which classes are many-, medium- and few-shot; each field holds class indices.

    Examples:
        >>> splits = ClassCounts([101, 100, 20, 19]).shots()
        >>> [(name, index.tolist()) for name, index in splits]
        [('many', [0]), ('medium', [1, 2]), ('few', [3])]
        >>> [len(index) for _, index in ClassCounts([101, 100, 20, 19]).shots(convention="oltr")]
        [2, 0, 2]
    """

    many: Tensor
    medium: Tensor
    few: Tensor

    @classmethod
    def from_counts(cls, counts: ClassCounts, *, many: int, few: int, convention: Convention) -> ShotSplits:
        """Apply the bounds; see `ClassCounts.shots`."""
        require_number("shots", "many", many)
        require_number("shots", "few", few)
        if few > many:
            raise LongTailError(f"few={few} must not exceed many={many}: few-shot classes have fewer images.")
        if convention not in ("kang", "oltr"):
            raise LongTailError(f"Unknown convention {convention!r}: choose 'kang' (>, <) or 'oltr' (>=, <=).")
        values = counts.tensor
        is_many = values > many if convention == "kang" else values >= many
        is_few = values < few if convention == "kang" else (values <= few) & ~is_many
        indices = [mask.nonzero().flatten() for mask in (is_many, ~is_many & ~is_few, is_few)]
        return cls(*indices)

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        yield from (("many", self.many), ("medium", self.medium), ("few", self.few))

    def numbers(self) -> Tensor:
        """The number of each class's split, in class order: 0 for many, 1 for medium, 2 for few."""
        numbers = torch.empty(sum(map(len, (self.many, self.medium, self.few))), dtype=torch.int64)
        for number, (_, index) in enumerate(self):
            numbers[index] = number
        return numbers

    def names(self) -> list[str]:
        """The split of each class, in class order."""
        by_class = {int(c): name for name, index in self for c in index}
        return [by_class[c] for c in range(len(by_class))]


def split_means(per_class: Tensor, splits: ShotSplits | None) -> dict[str, float | None]:
    """Mean of per-class values over each split and over all classes, leaving out NaN; None for an empty group.

    Examples:
        >>> split_means(torch.tensor([1.0, 0.5, torch.nan]), ClassCounts([200, 50, 5]).shots())
        {'many': 1.0, 'medium': 0.5, 'few': None, 'all': 0.75}
    """
    groups = dict.fromkeys(("many", "medium", "few")) if splits is None else dict(splits)
    values = {name: torch.empty(0) if index is None else per_class[index] for name, index in groups.items()}
    means = {name: float(group.nanmean()) for name, group in {**values, "all": per_class}.items()}
    return {name: None if mean != mean else mean for name, mean in means.items()}


def log_prior(class_counts: Tensor, dtype: torch.dtype) -> Tensor:
    """Log training frequency of each class, finite for a class without images (taken as one image)."""
    return class_counts.clamp(min=1).to(dtype).log() - class_counts.sum().to(dtype).log()


def as_labels(labels: Any, num_classes: int | None = None) -> Tensor:
    """Class indices as a checked 1-D int64 tensor.

    Raises:
        LongTailError: when a label is no whole number or lies outside 0..num_classes-1.
    """
    require_possible(num_classes)
    values = whole_numbers(labels, "labels", fractions="labels must be whole class indices, got fractions.")
    if values.ndim != 1:
        raise LongTailError(f"labels must be 1-D, one class index per image, got shape {tuple(values.shape)}.")
    if values.numel() == 0:
        raise LongTailError("labels are empty: there is no image; check the data path.")
    low, high = int(values.min()), int(values.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        wrong = low if low < 0 else high
        upper = f"0..{num_classes - 1}" if num_classes else "0..C-1"
        where = int((values == wrong).nonzero()[0])
        raise LongTailError(
            f"labels[{where}] is {wrong}, outside {upper}: number the classes from 0, or raise num_classes."
        )
    if num_classes is None and high >= MAX_CLASSES:
        where = int(values.argmax())
        raise LongTailError(
            f"labels[{where}] is {high}, which would make {high + 1:,} classes of {len(values):,} images: number the "
            f"classes from 0 without gaps (more than {MAX_CLASSES:,} classes are refused)."
        )
    return values


def require_possible(num_classes: int | None) -> None:
    """Refuse what is no number of classes, or would fill the memory."""
    if num_classes is None:
        return
    if isinstance(num_classes, int) and num_classes > MAX_CLASSES:
        raise LongTailError(f"num_classes={num_classes:,} is more than {MAX_CLASSES:,}: how many classes are there?")
    require_whole("A number of classes", "num_classes", num_classes, 1)


def _counted(counts: Any) -> Tensor:
    fractions = "class_counts must be whole numbers of images; pass counts, not frequencies or weights."
    is_mask = str(getattr(counts, "dtype", "")).endswith("bool")
    if is_mask or (isinstance(counts, (list, tuple)) and any(isinstance(count, bool) for count in counts)):
        raise LongTailError("class_counts are True and False: give the number of images of each class.")
    return whole_numbers(counts, "class_counts", fractions=fractions)
