"""Compare drawn class frequencies with what the formula promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


def assert_class_frequencies(
    indices: Iterable[int], labels: Sequence[int], probabilities: Sequence[float], sigmas: float = 5.0
) -> None:
    """Each class within `sigmas` standard deviations of the binomial distribution."""
    drawn = torch.bincount(torch.as_tensor(labels)[torch.tensor(list(indices))], minlength=len(probabilities))
    total, p = int(drawn.sum()), torch.tensor(probabilities, dtype=torch.float64)
    bound = sigmas * (total * p * (1 - p)).sqrt() + 1e-9
    assert bool(((drawn - total * p).abs() <= bound).all()), (drawn.tolist(), (total * p).tolist())
