"""Long-tailed class counts."""

from __future__ import annotations

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts


def long_tail_counts(num_classes: int, max_count: int, imbalance_factor: float) -> ClassCounts:
    r"""Exponentially falling counts \(n_c = \lfloor n_0 \, f^{-c/(C-1)} \rfloor\), class 0 the largest.

    Args:
        num_classes: number of classes, C.
        max_count: images of class 0, \(n_0\).
        imbalance_factor: largest over smallest count, f; 1 is balanced.

    Example:
        >>> long_tail_counts(10, 5000, 100).total
        12406
    """
    if imbalance_factor < 1:
        raise LongTailError(f"imbalance_factor={imbalance_factor} must be at least 1 (largest over smallest count).")
    if num_classes < 2 or max_count < 1:
        raise LongTailError(
            f"Need at least 2 classes and 1 image, got {num_classes} classes of up to {max_count} images."
        )
    fraction = 1.0 / imbalance_factor
    return ClassCounts([int(max_count * fraction ** (c / (num_classes - 1.0))) for c in range(num_classes)])
