"""Seed the random generators for each item, so that its augmentation depends on the item and its view alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import generator, temporary_seed
from longtail_lightning.datasets.augment import item_keys
from longtail_lightning.datasets.decode import UnreadableImageError, renamed
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.nested import item_name, whole_batch

_ATTEMPTS = 50


class SeededDataset(Dataset[Any]):
    """Makes each item under random generators that are seeded with (seed, view, index).

    So augmentation does not depend on the batch, the number of workers or the process, and repeats on
    resume. Covers the global generators of torch, numpy and `random`. A data set with a method
    `batch(indices)`, which gives `(images, labels)` and nothing random, is asked once per batch instead of
    once per image.

    Args:
        dataset: items `(image, label, ...)`.
        seed: seed of what is random.
        view: which of its random views an item shows; None when each draw of a training epoch has a view of its
            own, which `ResumableLoader` then gives.
        transform: applied to each image.
        on_error: `"raise"`, or `"skip"` to put another image of the same class in the place of one
            that cannot be decoded (of any class, when its own has none left); `unreadable` lists those. The items
            of a batch name the image that was read, and it is augmented as itself.
        whole_batches: ask for whole batches where the data set can give them.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        seed: int = 0,
        *,
        view: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        whole_batches: bool = True,
    ) -> None:
        self.dataset = dataset
        self.seed = seed
        self.view = view
        self.transform = transform
        self.on_error = on_error
        self.whole_batches = whole_batches and transform is None
        # In shared memory, so that workers can report what they skipped.
        size = len(dataset) if on_error == "skip" else 0  # type: ignore[arg-type]
        # Lightning makes evaluation loaders in inference mode; a tensor made there cannot be changed outside of it.
        with torch.inference_mode(False):
            self._unreadable = torch.zeros(size, dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]

    def unreadable(self) -> list[int]:
        """Items that were replaced since the last call."""
        if self.on_error != "skip":
            return []
        found: list[int] = self._unreadable.nonzero().flatten().tolist()
        self._unreadable.zero_()
        return found

    @cached_property
    def labels(self) -> Tensor:
        """Class index of each item."""
        return labels_of(self.dataset)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self._fetch(self._with_view([index]))[0]

    def __getitems__(self, items: Sequence[int] | np.ndarray) -> Fetched:
        """The items of a batch, given as indices, or as rows of index and view."""
        rows = items if isinstance(items, np.ndarray) else self._with_view(items)
        try:
            return self._fetch(rows)
        except LongTailError as error:
            if get_worker_info() is None:
                raise
            return Fetched([], rows, error=error)  # torch would pass on the text of the error alone

    def _with_view(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([np.asarray(indices, dtype=np.int64), np.full(len(indices), self.view or 0)], axis=1)

    def _fetch(self, rows: np.ndarray) -> Fetched:
        # A copy lies in one piece, from which rows are picked faster.
        if self.whole_batches and (batch := whole_batch(self.dataset, rows[:, 0].copy())) is not None:
            return Fetched(batch, rows, whole=True)
        keys = item_keys(rows, seed=self.seed).tolist()
        samples, read = [], rows.copy()
        with _generators_kept():
            for place, ((index, view), key) in enumerate(zip(rows.tolist(), keys)):
                sample, read[place, 0] = self._item(index, view, key)
                samples.append(sample)
        return Fetched(samples, read)

    def _item(self, index: int, view: int, key: int) -> tuple[Any, int]:
        """A sample, and the place of the image that it shows."""
        _seed_generators(key)
        item, index = self._readable(index, view) if self.on_error == "skip" else (self._read(index), index)
        if self.transform is None:
            return item, index
        if isinstance(item, (tuple, list)):
            return (self._transformed(item[0], index), *item[1:]), index
        return self._transformed(item, index), index

    def _transformed(self, image: Any, index: int) -> Any:
        assert self.transform is not None
        try:
            return self.transform(image)
        except UnreadableImageError as error:
            raise renamed(error, item_name(self.dataset, index)) from error

    def _read(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except OSError as error:  # data sets from elsewhere, for example torchvision's with Pillow
            raise UnreadableImageError(f"{item_name(self.dataset, index)} cannot be read ({error}).") from error

    def _readable(self, index: int, view: int) -> tuple[Any, int]:
        for other in islice(self._in_place_of(index, view), _ATTEMPTS):
            if other != index:  # what is random for an image is its own, also when it stands in for another one
                _seed_generators(int(item_keys(np.array([[other, view]]), seed=self.seed)[0]))
            try:
                return self._read(other), other
            except UnreadableImageError:
                self._unreadable[other] = True
        raise UnreadableImageError(
            f"{item_name(self.dataset, index)} and {_ATTEMPTS - 1} images in its place cannot be decoded: "
            "is the disk still there? `ltl data check` lists what is wrong."
        )

    def _in_place_of(self, index: int, view: int) -> Iterator[int]:
        """The item itself, then some of its class, then any; another choice in each view."""
        yield index
        random = generator(self.seed, view, index)
        same_class = self.labels.eq(self.labels[index]).nonzero().flatten()
        same_class = same_class[torch.randperm(len(same_class), generator=random)]
        yield from (other for other in same_class[: _ATTEMPTS // 2].tolist() if other != index)
        while True:
            yield int(torch.randint(len(self), (), generator=random))


class Fetched(list[Any]):
    """What a data set gave for a batch of items, before it is collated.

    Args:
        samples: one per item, or the images and labels of the whole batch.
        items: int64, `(batch, 2)`: index of the image that was read, and view, of each item.
        whole: whether `samples` are a whole batch.
        error: what went wrong in a loading process.
    """

    def __init__(
        self, samples: Sequence[Any], items: np.ndarray, *, whole: bool = False, error: LongTailError | None = None
    ) -> None:
        super().__init__(samples)
        self.items = items
        self.whole = whole
        self.error = error


def collate(samples: Any, *, stack: Callable[[Any], Any] = default_collate, with_items: bool = True) -> Any:
    """Make a batch; an error stays one, for the main process to raise.

    Args:
        samples: what the data set gave.
        stack: makes a batch of samples that do not come as one.
        with_items: end the batch with the items that it holds.
    """
    if not isinstance(samples, Fetched):
        return stack(samples)
    if samples.error is not None:
        return samples.error
    try:
        batch = list(samples) if samples.whole else stack(samples)
    except (TypeError, RuntimeError) as error:
        if stack is not default_collate:  # the user's own
            raise
        return LongTailError(
            f"Items cannot be put into a batch ({str(error).removeprefix('default_collate: ')}): let the data set give "
            "images as tensors and labels as numbers, and choose transforms that make all images one size."
        )
    return [*batch, samples.items] if with_items and isinstance(batch, (list, tuple)) else batch


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Restore the global random generators at the end."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with temporary_seed():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _seed_generators(key: int) -> None:
    random.seed(key & ((1 << 63) - 1))  # random.seed ignores the sign
    np.random.seed(key & 0xFFFFFFFF)
    torch.default_generator.manual_seed(key)  # torch.manual_seed seeds every accelerator as well
