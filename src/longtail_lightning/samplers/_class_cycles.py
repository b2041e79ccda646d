"""Go through the images of each class in random order, again and again, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from longtail_lightning.samplers._base import PIECE
from longtail_lightning.samplers._by_class import ByClass

_STEPS = 64
"""Steps prepared at once: enough to hide the preparation, few enough for short epochs."""


def class_cycles(images: ByClass, samples_per_class: int, generator: Generator) -> Iterator[Tensor]:
    """Endless rounds `(classes, samples_per_class)`: the next images of every class.

    A class shows all of its images before one comes back, then continues in another random order. No
    image stands twice in one row unless the class has fewer than `samples_per_class`.

    All classes take the same step of a Fisher-Yates shuffle at once: of the images that have not been
    taken in this cycle, one is chosen and moved to the front.

    Args:
        images: the images of each class.
        samples_per_class: length of a row.
        generator: source of the order.

    Examples:
        >>> from longtail_lightning._random import generator
        >>> rounds = class_cycles(ByClass([0, 1, 1, 1, 1]), 2, generator(0))
        >>> first, second = next(rounds), next(rounds)
        >>> first[0].tolist(), sorted([*first[1].tolist(), *second[1].tolist()])
        ([0, 0], [1, 2, 3, 4])
    """
    order, first, sizes = images.order.clone(), images.first, images.sizes
    rounds = max(1, min(_STEPS, PIECE // len(sizes)) // samples_per_class)
    step = torch.arange(rounds * samples_per_class)[:, None]
    in_row = step % samples_per_class
    while True:
        taken = step % sizes
        # Where a new cycle begins inside a row, the row's own images, now at the back, must wait.
        choices = (sizes - torch.maximum(taken, in_row)).clamp(min=1)
        chance = torch.rand(taken.shape, generator=generator, dtype=torch.float64)
        front = first + taken
        chosen = front + (chance * choices).long()
        drawn = torch.empty(taken.shape, dtype=order.dtype)
        for to, origin, row in zip(front, chosen, drawn):
            torch.index_select(order, 0, origin, out=row)
            order[origin] = order[to]
            order[to] = row
        yield from drawn.view(rounds, samples_per_class, -1).transpose(1, 2)
        step = step + len(step)
