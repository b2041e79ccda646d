"""A DataLoader that continues in the middle of an epoch, and repeats its random augmentations."""

from __future__ import annotations

import random
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, default_collate

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import generator, isolated_rng, mix
from longtail_lightning.datasets.decode import UnreadableImageError


class ResumableLoader(DataLoader[Any]):
    """A `DataLoader` with `state_dict`: after a resume it skips the batches that were trained on.

    Skipping happens in the sampler, so nothing is loaded in vain. Lightning saves and restores the
    state by itself. The samplers of this library depend on (seed, epoch) alone, so the number of
    batches is all there is to remember.

    Examples:
        >>> loader = ResumableLoader(range(6), batch_size=2)
        >>> loader.load_state_dict({"batches": 2})
        >>> [batch.tolist() for batch in loader], len(list(loader))
        ([[4, 5]], 3)
    """

    _skip = 0  # batches that the next epoch leaves out, if it is epoch `_skip_epoch`
    _skip_epoch = 0
    _begin = 0  # batches that this epoch has left out
    _done = 0  # batches of this epoch that have been handed out, those left out included
    _told = False  # whether `begin_at` said where to begin

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: nothing is drawn before the first batch is asked for. Lightning makes the
        # iterator of a resumed run before it knows the epoch, and workers would fetch at once.
        if isinstance(self.dataset, SeededDataset):
            self.dataset.set_epoch(self._epoch)
        # A run that was stopped after the last batch of an epoch resumes in the next, from its beginning.
        self._begin, self._skip = self._skip if self._skip_epoch == self._epoch else 0, 0
        self._done = self._begin
        batches = None
        try:
            with worker_errors(self.num_workers):
                batches = super().__iter__()
                for batch in batches:
                    self._done += 1
                    if self._done == len(self):  # Lightning asks for no more, so nothing runs after the last `yield`
                        self._tell_skipped()
                    yield batch
        except (Exception, KeyboardInterrupt):
            self._end_workers(batches)
            raise
        finally:
            self._tell_skipped()  # of an epoch that was cut short

    def _end_workers(self, batches: Any) -> None:
        # The traceback of an error keeps the iterator alive until the garbage collector finds it, which
        # would close the pipes to the workers while the threads that feed them do the same.
        if self.num_workers and batches is not None:
            batches._shutdown_workers()
            self._iterator = None

    def _tell_skipped(self) -> None:
        if not isinstance(self.dataset, SeededDataset) or not (skipped := self.dataset.unreadable()):
            return
        names = ", ".join(item_name(self.dataset.dataset, index) for index in skipped[:3])
        # Each process tells its own: the files of rank 1 are unknown to rank 0.
        warnings.warn(
            f"{len(skipped)} of the images could not be decoded in this epoch and were replaced by others of their "
            f"class ({names}{', ...' if len(skipped) > 3 else ''}): `ltl data check` finds all of them.",
            stacklevel=3,
        )

    @property
    def _epoch(self) -> int:
        return int(getattr(self.sampler, "epoch", 0))

    @property
    def _index_sampler(self) -> Any:
        return _Continued(super()._index_sampler, self)  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """Batches that have been handed out, and in which epoch."""
        return {"batches": self._done, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin that epoch after so many batches, unless `begin_at` has said where to begin."""
        if not self._told:
            self._skip = int(state["batches"])
            self._skip_epoch = int(state.get("epoch", 0))

    def begin_at(self, batches: int, epoch: int) -> None:
        """Begin that epoch after so many batches, whatever a state says that is loaded later.

        A state counts what was handed out, with it the batch that an exception interrupted. Who knows
        how many were trained on has the last word.
        """
        self._skip, self._skip_epoch, self._told = batches, epoch, True


class _Continued:
    """A batch sampler that leaves out the first batches of its loader's epoch."""

    def __init__(self, sampler: Any, loader: ResumableLoader) -> None:
        self.sampler = sampler
        self.loader = weakref.proxy(loader)  # it holds us: without a circle, its workers end with it

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.sampler), self.loader._begin, None)

    def __len__(self) -> int:
        return len(self.sampler)


class Batch(list[Any]):
    """Images and labels of a whole batch, which need no collating."""


def collate(items: Any) -> Any:
    """Stack items, unless they come as a whole batch."""
    return list(items) if isinstance(items, Batch) else default_collate(items)


class SeededDataset(Dataset[Any]):
    """Fetches each batch under random generators seeded with (seed, epoch, its indices).

    Random augmentations then repeat on resume and do not depend on the number of workers. Covers the
    global generators of torch, numpy and `random`. A data set with a method `batch(indices)`, which
    gives `(images, labels)` and nothing random, is asked once per batch instead of once per image.

    Args:
        dataset: items `(image, label, ...)`.
        seed: seed of what is random.
        transform: applied to each image.
        on_error: `"raise"`, or `"skip"` to put another image of the same class in the place of one
            that cannot be decoded (of any class, when its own has none left); `unreadable` lists those.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        seed: int = 0,
        *,
        transform: Callable[[Any], Any] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.dataset = dataset
        self.seed = seed
        self.transform = transform
        self.on_error = on_error
        # In shared memory, so that persistent workers see the epoch change, and tell what they skipped.
        size = len(dataset) if on_error == "skip" else 0  # type: ignore[arg-type]
        # Lightning makes evaluation loaders in inference mode, and what is made there cannot be written elsewhere.
        with torch.inference_mode(False):
            self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
            self._unreadable = torch.zeros(size, dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch to all workers."""
        self._epoch.fill_(epoch)

    def unreadable(self) -> list[int]:
        """Items that were replaced since the last call."""
        if self.on_error != "skip":
            return []
        found: list[int] = self._unreadable.nonzero().flatten().tolist()
        self._unreadable.zero_()
        return found

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self._under_seed([index], self._items)[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        whole = whole_batch(self.dataset, indices) if self.transform is None else None
        return Batch(whole) if whole is not None else self._under_seed(indices, self._items)

    def _under_seed(self, indices: Sequence[int], fetch: Callable[[Sequence[int]], list[Any]]) -> list[Any]:
        key = mix(self.seed, int(self._epoch), *indices)
        python_state, numpy_state = random.getstate(), np.random.get_state()
        random.seed(key)
        np.random.seed(key & 0xFFFFFFFF)
        try:
            with isolated_rng(key):
                return fetch(indices)
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)

    def _items(self, indices: Sequence[int]) -> list[Any]:
        return [self._item(index) for index in indices]

    def _item(self, index: int) -> Any:
        item = self._readable(index) if self.on_error == "skip" else self._read(index)
        if self.transform is None:
            return item
        if isinstance(item, (tuple, list)):
            return (self.transform(item[0]), *item[1:])
        return self.transform(item)

    def _read(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except OSError as error:  # data sets from elsewhere, for example torchvision's with Pillow
            raise UnreadableImageError(f"{item_name(self.dataset, index)} cannot be read ({error}).") from error

    def _readable(self, index: int) -> Any:
        for tried in islice(self._in_place_of(index), _TRIES):
            try:
                return self._read(tried)
            except UnreadableImageError:
                self._unreadable[tried] = True
        raise UnreadableImageError(
            f"{item_name(self.dataset, index)} and {_TRIES - 1} images in its place cannot be decoded: "
            "is the disk still there? `ltl data check` lists what is wrong."
        )

    def _in_place_of(self, index: int) -> Iterator[int]:
        """The item itself, then some of its class, then any; another choice in each epoch."""
        yield index
        random = generator(self.seed, int(self._epoch), index)
        same_class = self._labels.eq(self._labels[index]).nonzero().flatten()
        same_class = same_class[torch.randperm(len(same_class), generator=random)]
        yield from (other for other in same_class[: _TRIES // 2].tolist() if other != index)
        while True:
            yield int(torch.randint(len(self), (), generator=random))

    @cached_property
    def _labels(self) -> Tensor:
        from longtail_lightning.datasets.labels import labels_of  # which knows this class

        return labels_of(self.dataset)


_TRIES = 50


def whole_batch(dataset: Any, indices: Sequence[int]) -> Any:
    """The batch in one piece, when the data set below any subsets can give it; else None."""
    while isinstance(dataset, Subset):
        indices = [dataset.indices[index] for index in indices]
        dataset = dataset.dataset
    fetch = getattr(dataset, "batch", None)
    return fetch(indices) if fetch is not None else None


@contextmanager
def worker_errors(num_workers: int) -> Iterator[None]:
    """Errors of loading processes arrive wrapped in a traceback; give back what was said."""
    try:
        yield
    except LongTailError as error:
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        if not str(error).startswith("Caught "):
            raise
        raise type(error)(str(error).rpartition(name)[2].strip()) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        # A process that dies while it hands over a batch breaks the connection before torch misses it.
        own = "DataLoader worker (" in str(error) if isinstance(error, RuntimeError) else "Caught " not in str(error)
        if num_workers == 0 or not own:
            raise
        raise LongTailError(worker_died(error)) from error


def worker_died(error: Exception) -> str:
    """What to say when a loading process has died."""
    signal = str(error).partition("killed by signal: ")[2].split(".")[0].strip()
    return (
        f"A process that loads images has died{f' ({signal})' if signal else ''}: most often the machine ran out of "
        "memory, so use fewer num_workers or a smaller batch_size; with num_workers=0 the cause shows itself."
    )


def item_name(dataset: Any, index: int) -> str:
    """The file of an item, when the data set below any subsets knows it; its index otherwise."""
    dataset, index = below(dataset, index)
    file = getattr(dataset, "file", None)
    if callable(file):
        return str(file(index))
    pairs = getattr(dataset, "samples", None)  # torchvision's folders
    return str(pairs[index][0]) if isinstance(pairs, list) and isinstance(pairs[index], tuple) else str(index)


def below(dataset: Any, index: int) -> tuple[Any, int]:
    """The data set below all subsets and joined sets that holds the item, and the item's place there."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        else:
            part = bisect_right(dataset.cumulative_sizes, index)
            dataset, index = dataset.datasets[part], index - (dataset.cumulative_sizes[part - 1] if part else 0)
    return dataset, index


def one_thread(_: int) -> None:
    """One thread per worker process: more of them only fight over the cores."""
    torch.set_num_threads(1)
