"""Randomness as a function of (seed, epoch, position), so that a resumed run repeats an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """Hash integers to a 63-bit seed (splitmix64 over the sequence).

    Unlike `seed + epoch`, neighboring seeds share no epochs.

    Examples:
        >>> mix(0, 1) == mix(1, 0)
        False
    """
    state = 0
    for number in numbers:
        state = (state + (number & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def generator(*numbers: int) -> torch.Generator:
    """A CPU generator seeded with `mix(*numbers)`."""
    return torch.Generator().manual_seed(mix(*numbers))


@contextmanager
def isolated_rng(*numbers: int) -> Iterator[None]:
    """Run a block under the global CPU generator seeded with `mix(*numbers)`, then put its state back."""
    # Not torch.manual_seed: that seeds every accelerator as well.
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(mix(*numbers))
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
