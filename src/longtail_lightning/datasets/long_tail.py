"""Make any data set long-tailed, and name the subset so that results can be compared."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.counts import ClassCounts, ClassCountsLike, as_labels, require_possible

Profile = Literal["exp", "step", "pareto"] | ClassCountsLike
Draw = Literal["random", "first"]
_PROFILES = ("exp", "step", "pareto")


def long_tail_counts(
    num_classes: int,
    max_count: float,
    imbalance_factor: float,
    profile: Literal["exp", "step", "pareto"] = "exp",
) -> ClassCounts:
    r"""Falling class counts, class 0 the largest.

    `"exp"`: \(n_c = \lfloor n_0 \, f^{-c/(C-1)} \rfloor\); `"step"`: the first half of the classes has
    \(n_0\) images, the others \(n_0 / f\) (with an odd number of classes the middle one belongs to the
    tail); `"pareto"`: a power law, \(n_c = \lfloor n_0 \, (c+1)^{-\log f / \log C} \rfloor\).

    Args:
        num_classes: number of classes, C.
        max_count: images of class 0, \(n_0\).
        imbalance_factor: largest over smallest count, f; 1 is balanced.
        profile: shape of the tail.

    Examples:
        >>> long_tail_counts(10, 5000, 100).total
        12406
        >>> long_tail_counts(4, 100, 10, "step"), long_tail_counts(4, 100, 10, "pareto")
        (ClassCounts([100, 100, 10, 10]), ClassCounts([100, 31, 16, 10]))
    """
    if not 1 <= imbalance_factor < math.inf:
        raise LongTailError(f"imbalance_factor={imbalance_factor} must be at least 1 (largest over smallest count).")
    if not num_classes >= 2 or not 1 <= max_count < math.inf:
        raise LongTailError(
            f"Need at least 2 classes and 1 image, got {num_classes} classes of up to {max_count} images."
        )
    require_possible(num_classes)
    shares = _shares(num_classes, imbalance_factor, profile)
    return ClassCounts([_floor(max_count * share) for share in shares])


def _floor(value: float) -> int:
    """Round down, but not when only rounding errors lie below an integer: 49 * (1 / 49) counts as 1."""
    nearest = round(value)
    return nearest if math.isclose(value, nearest, rel_tol=1e-12) else int(value)


def long_tail_indices(
    labels: Any,
    imbalance_factor: float = 100.0,
    profile: Profile = "exp",
    *,
    max_count: int | None = None,
    draw: Draw = "random",
    seed: int = 0,
) -> Tensor:
    r"""Indices of a long-tailed subset, sorted: class 0 the largest, random images within each class.

    The draw is that of Cao et al. 2019 (LDAM), whose CIFAR subsets everybody compares on: one
    numpy `RandomState(seed)`, the images of each class shuffled in label order, the first
    \(n_c\) of them taken.

    Args:
        labels: class index of each image, for example `labels_of(dataset)`.
        imbalance_factor: largest over smallest count; not used when `profile` gives counts.
        profile: `"exp"`, `"step"`, `"pareto"`, or the number of images of each class.
        max_count: images of class 0; by default the mean class size, which is all of a class when the data
            set is balanced.
        draw: `"random"` images of each class, or its `"first"` ones in the order of the data, which is what
            the code of LTR weight balancing (Alshammari et al. 2022) takes.
        seed: which images are drawn at random.

    Examples:
        >>> labels = [0, 1] * 100
        >>> indices = long_tail_indices(labels, imbalance_factor=10)
        >>> ClassCounts.from_labels([labels[i] for i in indices])
        ClassCounts([100, 10])
    """
    if draw not in ("random", "first"):
        raise LongTailError(f"draw={draw!r}: choose 'random' or 'first'.")
    values = as_labels(labels).numpy()
    available = np.bincount(values)
    counts = _wanted(available, imbalance_factor, profile, max_count)
    random = np.random.RandomState(seed)
    taken = []
    for label, count in enumerate(counts):
        images = np.flatnonzero(values == label)
        if draw == "random":
            random.shuffle(images)
        taken.append(images[:count])
    return torch.from_numpy(np.sort(np.concatenate(taken)))


@dataclass(frozen=True)
class SubsetId:
    """Which images a run was trained on: a name, the seed of the draw and a checksum of the sorted indices.

    Args:
        name: data set and shape of the tail.
        seed: seed of the draw.
        images: size of the subset.
        checksum: of the sorted indices, the first 12 digits of their SHA-256.

    Examples:
        >>> print(SubsetId.of("mine-exp-10", torch.tensor([4, 0, 2])))
        mine-exp-10, seed 0, 3 images, sha256 a955c6c593a4
    """

    name: str
    seed: int
    images: int
    checksum: str

    @classmethod
    def of(cls, name: str, indices: Tensor | Sequence[int], seed: int = 0) -> SubsetId:
        """Name the subset with these indices; their order does not matter."""
        ordered = np.sort(np.asarray(indices, dtype="<i8"))
        return cls(name, seed, len(ordered), hashlib.sha256(ordered.tobytes()).hexdigest()[:12])

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}, {self.images} images, sha256 {self.checksum}"


def profile_name(imbalance_factor: float, profile: Profile, draw: Draw = "random") -> str:
    """The name of subsets with this profile, for example `exp-100` or `step-10-first`."""
    name = f"{profile}-{imbalance_factor:g}" if isinstance(profile, str) else "counts"
    return name if draw == "random" else f"{name}-{draw}"


def _shares(num_classes: int, imbalance_factor: float, profile: str) -> list[float]:
    fraction, last = 1.0 / imbalance_factor, num_classes - 1.0
    if profile == "exp":
        return [fraction ** (c / last) for c in range(num_classes)]
    if profile == "step":
        return [1.0] * (num_classes // 2) + [fraction] * (num_classes - num_classes // 2)
    if profile == "pareto":
        power = math.log(imbalance_factor) / math.log(num_classes)
        return [(c + 1) ** -power if c < last else fraction for c in range(num_classes)]
    raise LongTailError(
        f"profile={profile!r} is not a shape of a tail. {did_you_mean(str(profile), _PROFILES)} "
        "Or pass one number per class."
    )


def _wanted(available: np.ndarray, imbalance_factor: float, profile: Profile, max_count: int | None) -> list[int]:
    num_classes = len(available)
    if isinstance(profile, str):
        largest = max_count if max_count is not None else available.sum() / num_classes
        counts = long_tail_counts(num_classes, largest, imbalance_factor, profile).tolist()
    else:
        counts = ClassCounts(profile).tolist()
        if len(counts) != num_classes:
            raise LongTailError(f"profile has counts for {len(counts)} classes, the labels have {num_classes}.")
    if short := [c for c in range(num_classes) if counts[c] > available[c]]:
        hint = "ask for fewer"
        if isinstance(profile, str):
            shares = _shares(num_classes, imbalance_factor, profile)
            hint = f"pass max_count={int(min(n / share for n, share in zip(available.tolist(), shares)))} or less"
        raise LongTailError(
            f"Class {short[0]} has {available[short[0]]} images but the long tail asks for {counts[short[0]]} "
            f"({len(short)} classes are too small): {hint}."
        )
    return counts
