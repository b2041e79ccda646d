"""A DataLoader that continues in the middle of an epoch, and repeats its random augmentations."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from longtail_lightning._random import isolated_rng, mix


class ResumableLoader(DataLoader[Any]):
    """A `DataLoader` with `state_dict`: after a resume it skips the batches that were trained on.

    Skipping happens in the sampler, so nothing is loaded in vain. Lightning saves and restores the
    state by itself. The samplers of this library depend on (seed, epoch) alone, so the number of
    batches is all there is to remember.

    Example:
        >>> loader = ResumableLoader(range(6), batch_size=2)
        >>> loader.load_state_dict({"batches": 2})
        >>> [batch.tolist() for batch in loader], len(list(loader))
        ([[4, 5]], 3)
    """

    _skip = 0  # batches that the next epoch leaves out, if it is epoch `_skip_epoch`
    _skip_epoch = 0
    _begin = 0  # batches that this epoch has left out
    _done = 0  # batches of this epoch that have been handed out, those left out included

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: nothing is drawn before the first batch is asked for. Lightning makes the
        # iterator of a resumed run before it knows the epoch, and workers would fetch at once.
        if isinstance(self.dataset, SeededDataset):
            self.dataset.set_epoch(self._epoch)
        # A run that was stopped after the last batch of an epoch resumes in the next, from its beginning.
        self._begin, self._skip = self._skip if self._skip_epoch == self._epoch else 0, 0
        self._done = self._begin
        for batch in super().__iter__():
            self._done += 1
            yield batch

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
        """Begin that epoch after so many batches."""
        self._skip = int(state["batches"])
        self._skip_epoch = int(state.get("epoch", 0))


class _Continued:
    """A batch sampler that leaves out the first batches of its loader's epoch."""

    def __init__(self, sampler: Any, loader: ResumableLoader) -> None:
        self.sampler, self.loader = sampler, loader

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.sampler), self.loader._begin, None)

    def __len__(self) -> int:
        return len(self.sampler)


class SeededDataset(Dataset[Any]):
    """Fetches each batch under random generators seeded with (seed, epoch, its indices).

    Random augmentations inside the data set then repeat on resume and do not depend on the number
    of workers. Covers the global generators of torch, numpy and `random`.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        # In shared memory, so that persistent workers see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch to all workers."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        key = mix(self.seed, int(self._epoch), *indices)
        python_state, numpy_state = random.getstate(), np.random.get_state()
        random.seed(key)
        np.random.seed(key & 0xFFFFFFFF)
        try:
            with isolated_rng(key):
                return [self.dataset[index] for index in indices]
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def one_thread(_: int) -> None:
    """One thread per worker process: more of them only fight over the cores."""
    torch.set_num_threads(1)
