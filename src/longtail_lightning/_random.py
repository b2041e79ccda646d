"""Random numbers computed from (seed, epoch, position) and the like: a resumed run draws the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# The same 64 bits as signed integers, which numpy and torch use.
_STEP64, *_FACTORS64 = (number - (1 << 64) for number in (_STEP, *_FACTORS))
_ODD = 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D

Bits = TypeVar("Bits", np.ndarray, torch.Tensor)


def mix(*numbers: int) -> int:
    """Hash integers to a 63-bit seed (splitmix64 over the sequence).

    Unlike `seed + epoch`, neighboring seeds share no epochs.

    Examples:
        >>> mix(0, 1) == mix(1, 0)
        False
    """
    state = 0
    for number in numbers:
        state = (state + (number & _MASK) + _STEP) & _MASK
        state = ((state ^ (state >> 30)) * _FACTORS[0]) & _MASK
        state = ((state ^ (state >> 27)) * _FACTORS[1]) & _MASK
        state ^= state >> 31
    return state >> 1


def mix_arrays(seed: int, *columns: np.ndarray) -> np.ndarray:
    """Hash the rows of a few columns of integers, all at once.

    Args:
        seed: other hashes of the same rows.
        columns: int64, `(N,)`.

    Examples:
        >>> hashes = mix_arrays(0, np.array([0, 0, 1]), np.array([5, 6, 5]))
        >>> len(set(hashes.tolist()))
        3
    """
    # Odd factors without a pattern: rows of small numbers have different sums.
    bits = np.full(len(columns[0]), mix(seed))
    for place, column in enumerate(columns):
        bits += column * _ODD[place]
    return scramble(bits)


def random_integers(keys: np.ndarray, below: Sequence[int], *, purpose: int = 0) -> np.ndarray:
    """Integers that depend on each key alone: row i of the result lies in 0 .. below[i] - 1.

    Args:
        keys: int64, `(N,)`.
        below: one bound per row, up to 2^31.
        purpose: the same key gives other numbers for another purpose.

    Examples:
        >>> random_integers(mix_arrays(0, np.arange(4)), [2, 100]).tolist()
        [[0, 1, 1, 0], [34, 90, 48, 71]]
    """
    bits: np.ndarray = scramble(keys + counters(len(below), purpose)[:, None])
    bits >>= 32
    bits &= 0xFFFFFFFF
    bits *= np.array(below)[:, None]
    bits >>= 32
    return bits


@lru_cache(64)
def counters(number: int, purpose: int = 0) -> np.ndarray:
    """What is added to a key for its first, second, ... random number."""
    added: np.ndarray = (np.arange(1, number + 1) + (purpose << 40)) * _STEP64
    return added


def scramble(bits: Bits) -> Bits:
    """The last step of splitmix64, in place, on int64 arrays or tensors."""
    bits ^= (bits >> 30) & (_MASK >> 30)
    bits *= _FACTORS64[0]
    bits ^= (bits >> 27) & (_MASK >> 27)
    bits *= _FACTORS64[1]
    bits ^= (bits >> 31) & (_MASK >> 31)
    return bits


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
