"""Ids and texts of a bank as arrays, which can be mapped from a file: no Python object per item."""

from __future__ import annotations

import os
from abc import abstractmethod
from array import array
from collections.abc import Sequence
from numbers import Integral
from typing import Any, overload

import numpy as np
from typing_extensions import Self

from longtail_lightning._errors import LongTailError

# Every Python string can be encoded so, also a file name that is not UTF-8.
_ERRORS = "surrogatepass"
_ROWS = 1 << 14  # strings that are copied at once
_OFFSETS = "_offsets"


class Column(Sequence[Any]):
    """One value per item; a slice of it is a column too. Equal to any sequence of the same values."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Self:
        """The values of these rows, copied."""

    @abstractmethod
    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What is written of it: `column_of_arrays` makes the same column of them."""

    @abstractmethod
    def _item(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no item {index} of {len(self)}")
        return self._item(int(index) % len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == yours for mine, yours in zip(self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(repr(value) for value in self[:3])
        return f"{type(self).__name__}([{shown}{', ...' if len(self) > 3 else ''}])"


class Integers(Column):
    """Whole numbers.

    Args:
        values: int64, `(items,)`.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> Integers:
        return Integers(self.values[rows])

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return {name: self.values}

    def _item(self, index: int) -> int:
        return int(self.values[index])


class Strings(Column):
    """Strings as one array of UTF-8 bytes.

    Args:
        text: all strings one after the other, uint8.
        offsets: where each string begins, and where the last one ends; int64, `(items + 1,)`.

    Examples:
        >>> names = Strings.of(["a.jpg", "bär.jpg"])
        >>> len(names), names[1], names.text.nbytes
        (2, 'bär.jpg', 13)
    """

    def __init__(self, text: np.ndarray, offsets: np.ndarray) -> None:
        self.text = text
        self.offsets = offsets

    @classmethod
    def of(cls, values: Sequence[Any], called: str = "texts") -> Strings:
        """Strings and paths, one by one.

        Args:
            values: the strings.
            called: what an error calls them.
        """
        text, offsets = bytearray(), array("q", [0])
        for index, value in enumerate(values):
            value = os.fspath(value) if isinstance(value, os.PathLike) else value
            if not isinstance(value, str):
                numbers = ", or whole numbers alone" if called == "ids" else ", '' where there is none"
                raise LongTailError(f"{called}[{index}] is {value!r}, not a string: give strings{numbers}.")
            text += value.encode("utf-8", _ERRORS)
            offsets.append(len(text))
        return cls(np.frombuffer(text, np.uint8), np.frombuffer(offsets, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: np.ndarray) -> Strings:
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
        text = np.empty(offsets[-1], np.uint8)
        for first in range(0, len(rows), _ROWS):
            part = slice(first, first + _ROWS)
            begin, end = offsets[first], offsets[min(first + _ROWS, len(rows))]
            # A byte moves as far as the string that it is part of.
            text[begin:end] = self.text[
                np.arange(begin, end) + np.repeat(starts[part] - offsets[:-1][part], lengths[part])
            ]
        return Strings(text, offsets)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return {name: self.text, name + _OFFSETS: self.offsets}

    def _item(self, index: int) -> str:
        start, end = self.offsets[index : index + 2].tolist()
        return self.text[start:end].tobytes().decode("utf-8", _ERRORS)


def column_of(values: Any, called: str) -> Column:
    """Strings or whole numbers of any sequence, array or tensor as a column."""
    if isinstance(values, Column):
        return values
    if hasattr(values, "__array__"):
        values = np.asarray(values)
        if values.dtype.kind in "iu" and called == "ids":
            return Integers(values.astype(np.int64))
    if called == "ids" and all(isinstance(value, Integral) for value in values):
        try:
            return Integers(np.fromiter((int(value) for value in values), np.int64, len(values)))
        except OverflowError as error:
            raise LongTailError("ids hold a number of more than 64 bits: give them as strings.") from error
    return Strings.of(values, called)


def column_of_arrays(arrays: dict[str, np.ndarray], name: str) -> Column | None:
    """The column of this name among the arrays of a bank; ValueError when they contradict each other."""
    if name not in arrays:
        return None
    values, offsets = arrays[name], arrays.get(name + _OFFSETS)
    if offsets is None:
        if values.dtype != np.int64 or values.ndim != 1:
            raise ValueError(f"{name} are {values.dtype} of shape {values.shape}")
        return Integers(values)
    if offsets.dtype != np.int64 or offsets.ndim != 1 or values.dtype != np.uint8 or values.ndim != 1:
        raise ValueError(f"{name} are {values.dtype} with offsets of {offsets.dtype}")
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(values):
        raise ValueError(f"the offsets of {name} do not go from 0 to {len(values)}")
    return Strings(values, offsets)
