"""Long-tailed subsets, typed from the papers and from what the authors describe; loops, no code of ours."""

from __future__ import annotations

import numpy as np


def ldam_counts(num_images: int, num_classes: int, imbalance_factor: float, profile: str) -> list[int]:
    """Cao et al. 2019: n_max * (1/f)^(i / (C - 1)), or the first half n_max and the second n_max / f."""
    largest = num_images / num_classes
    smallest_share = 1 / imbalance_factor
    counts = []
    for i in range(num_classes):
        if profile == "exp":
            counts.append(int(largest * smallest_share ** (i / (num_classes - 1.0))))
        elif i < num_classes // 2:
            counts.append(int(largest))
        else:
            counts.append(int(largest * smallest_share))
    return counts


def ldam_subset(labels: list[int], counts: list[int]) -> list[int]:
    """The authors seed numpy's global generator with 0 once, then shuffle class after class."""
    state = np.random.get_state()
    np.random.seed(0)
    chosen: list[int] = []
    for label in range(len(counts)):
        places = np.array([place for place, other in enumerate(labels) if other == label])
        np.random.shuffle(places)
        chosen.extend(int(place) for place in places[: counts[label]])
    np.random.set_state(state)
    return chosen
