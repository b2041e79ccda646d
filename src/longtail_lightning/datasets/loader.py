"""A DataLoader that continues in the middle of an epoch, and says which items a batch holds."""

from __future__ import annotations

import errno
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import mix, mix_arrays
from longtail_lightning._system_errors import OPEN_FILES, SHARED_MEMORY, sentence_for_system_error
from longtail_lightning.datasets.loading_process import LoadingProcess, require_room
from longtail_lightning.datasets.nested import item_name
from longtail_lightning.datasets.seeded_dataset import SeededDataset, collate


class WorkerDiedError(LongTailError):
    """A process that loads images has died.

    Args:
        message: what to say.
        reason: how it ended, as far as that is known, such as `Killed`.
    """

    def __init__(self, message: str = "", *, reason: str = "") -> None:
        super().__init__(
            message
            or _KNOWN.get(reason)
            or f"A process that loads images has died{f' ({reason})' if reason else ''}: most often the machine ran "
            "out of memory, so use fewer num_workers or a smaller batch_size; with num_workers=0 the cause shows "
            "itself."
        )
        self.reason = reason


# How a process ends when the system refuses something in the middle of handing over a batch.
_KNOWN = {"Bus error": SHARED_MEMORY, f"exit code {errno.EMFILE}": OPEN_FILES}


class ResumableLoader(DataLoader[Any]):
    """A `DataLoader` with `state_dict`: after a resume it skips the batches that were trained on.

    Skipping happens in the sampler, so nothing is loaded in vain. Lightning saves and restores the
    state by itself. The samplers of this library depend on (seed, epoch) alone, so the number of
    batches is all there is to remember.

    Batches of a `SeededDataset` end with the items that they hold, int64 `(batch, 2)`: place in the data set
    and view. In training, each draw has its own view: a hash of the epoch and of the draw's position in the
    epoch's list, which all processes share. So an image that is drawn twice is augmented in two ways, and
    several processes together see what one process would see alone.

    Args:
        dataset: the data set.
        epoch: tells the epoch where the sampler does not, as torch's own do not.
        views: how many views each image has in training; as many as it is drawn when None.
        options: those of `DataLoader`.

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
    _placed = False  # whether `begin_at` said where to begin

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        epoch: Callable[[], int] | None = None,
        views: int | None = None,
        **options: Any,
    ) -> None:
        self.epoch, self.views = epoch, views  # by these names Lightning finds them when it makes the loader anew
        options["worker_init_fn"] = LoadingProcess.beginning_with(options.get("worker_init_fn"))
        super().__init__(dataset, **{"collate_fn": collate, **options})

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: nothing is drawn before the first batch is asked for. Lightning makes the
        # iterator of a resumed run before it knows the epoch, and workers would fetch at once.
        # A run that was stopped after the last batch of an epoch resumes in the next, from its beginning.
        self._begin, self._skip = self._skip if self._skip_epoch == self._epoch else 0, 0
        self._done = self._begin
        batches = None
        try:
            if self.num_workers:
                require_room(self.num_workers)
            with loading_problems_named(None):
                batches = super().__iter__()
            with loading_problems_named(batches):
                for batch in batches:
                    if isinstance(batch, LongTailError):  # from a loading process
                        raise batch
                    self._done += 1
                    if self._done == len(self):  # Lightning asks for no more, so nothing runs after the last `yield`
                        self._tell_skipped()
                    yield batch
        except (Exception, KeyboardInterrupt):
            if self.num_workers and batches is not None:
                with suppress(OSError, ImportError):  # without a free file descriptor nothing can be imported
                    from longtail_lightning._lightning import end_workers  # Lightning is not needed to load data

                    end_workers(self, batches)
            raise
        finally:
            self._tell_skipped()  # of an epoch that was cut short

    def _tell_skipped(self) -> None:
        if not isinstance(self.dataset, SeededDataset) or not (skipped := self.dataset.unreadable()):
            return
        names = ", ".join(item_name(self.dataset.dataset, index) for index in skipped[:3])
        # Each process names its own files: rank 0 does not know those of rank 1.
        warnings.warn(
            f"{len(skipped)} of the images could not be decoded in this epoch and were replaced by others of their "
            f"class ({names}{', ...' if len(skipped) > 3 else ''}): `ltl data check` finds all of them.",
            stacklevel=3,
        )

    @property
    def _epoch(self) -> int:
        if (told := getattr(self.sampler, "epoch", None)) is None:
            told = 0 if self.epoch is None else self.epoch()
        return int(told)

    @property
    def _index_sampler(self) -> Any:
        return _Batches(super()._index_sampler, self)  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """Batches that have been handed out, and in which epoch."""
        return {"batches": self._done, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin that epoch after so many batches, unless `begin_at` has said where to begin."""
        if not self._placed:
            self._skip = int(state["batches"])
            self._skip_epoch = int(state.get("epoch", 0))

    def begin_at(self, batches: int, epoch: int) -> None:
        """Begin that epoch after so many batches, even if a state that is loaded later says otherwise.

        A state counts the batches handed out, including one that an exception interrupted. The caller
        knows how many were trained on, so it has the last word.
        """
        self._skip, self._skip_epoch, self._placed = batches, epoch, True

    def items(self, indices: Sequence[int], first: int) -> Any:
        """Index and view of each item of a batch; indices alone when the data set knows no views.

        Args:
            indices: places in the data set.
            first: how many items of this process come before them in the epoch.
        """
        if not isinstance(self.dataset, SeededDataset) or not isinstance(indices, (list, tuple)):
            return indices
        rows = np.empty((len(indices), 2), dtype=np.int64)
        rows[:, 0] = indices
        if self.dataset.view is not None:
            rows[:, 1] = self.dataset.view
        else:
            # The sampler in use: a callback may have replaced the loader's own.
            sampler = getattr(self.batch_sampler, "sampler", self.sampler)
            sampler = getattr(sampler, "current", sampler)
            # A number of its own for each draw of each epoch; keys of items are hashes of it.
            rows[:, 1] = shared_positions(sampler, first, len(indices))
            rows[:, 1] += mix(self._epoch) >> 1
            if self.views is not None:
                # A hash again, or else neighbors in the epoch's list would show neighboring views.
                rows[:, 1] = mix_arrays(0, rows[:, 1], rows[:, 0]).view(np.uint64) % np.uint64(self.views)
        return rows


def shared_positions(sampler: Any, first: int, number: int) -> np.ndarray:
    """Positions of this process's items in the epoch's list, which the sampler deals out to all processes.

    Args:
        sampler: deals groups of `group` neighbors, group r, r + R, ... to process r of R; `DistributedSampler` and
            its like deal single items.
        first: the first item, counted on this process.
        number: how many items.

    Examples:
        >>> from longtail_lightning import ClassAwareSampler
        >>> sampler = ClassAwareSampler([0] * 8, samples_per_class=2, num_replicas=2, rank=1)
        >>> shared_positions(sampler, 0, 4).tolist()
        [2, 3, 6, 7]
    """
    own = np.arange(first, first + number)
    group, replicas = getattr(sampler, "group", 1), getattr(sampler, "num_replicas", 1)
    if replicas == 1:
        return own
    groups, within = np.divmod(own, group)
    positions: np.ndarray = (groups * replicas + sampler.rank) * group + within
    return positions


class _Batches:
    """The batch sampler of a loader: leaves out the first batches of its epoch, and says which views it wants."""

    def __init__(self, sampler: Any, loader: ResumableLoader) -> None:
        self.sampler = sampler
        self.loader = weakref.proxy(loader)  # it holds us: without a cycle, its workers end with it

    def __iter__(self) -> Iterator[Any]:
        first = 0
        for number, indices in enumerate(self.sampler):
            if number >= self.loader._begin:
                yield self.loader.items(indices, first)
            first += 1 if isinstance(indices, int) else len(indices)

    def __len__(self) -> int:
        return len(self.sampler)


@contextmanager
def loading_problems_named(batches: Any) -> Iterator[None]:
    """Say in one sentence that a loading process has died, or that the system has refused what it needs.

    Args:
        batches: the iterator of a `DataLoader`; None while it is made.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError, MemoryError) as error:
        # Without processes, what a data set raises is left as it is.
        if (batches is None or hasattr(batches, "_workers")) and (told := sentence_for_system_error(error)):
            raise LongTailError(told) from error
        from longtail_lightning._lightning import reason_of_death

        # A process that dies while it hands over a batch breaks the connection before torch notices.
        broken = isinstance(error, (ConnectionError, EOFError))
        if (reason := reason_of_death(batches, wait=broken)) is not None:
            raise WorkerDiedError(reason=reason) from error
        raise
