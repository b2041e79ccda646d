"""How an extraction is cut into shards, and who takes which of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass

_SHARDS = 64  # aimed at per view: enough to deal to many processes
_LARGEST = 8192  # inputs that a kill may cost at most, when nothing else is said


@dataclass(frozen=True)
class Shards:
    """Shard s of view v holds inputs `s * size` to `(s + 1) * size`; a task is one shard of one view.

    Shards are whole batches, so a batch holds the same inputs on any process: on CPU and GPU the
    features of an input depend in their last bits on how many inputs are computed with it.
    """

    number: int
    views: int
    batch_size: int
    size: int

    @classmethod
    def of(cls, number: int, views: int, batch_size: int, shard_size: int | None) -> Shards:
        """Round the wanted number of inputs per shard up to whole batches."""
        wanted = shard_size if shard_size is not None else min(_LARGEST, -(-number // _SHARDS))
        return cls(number, views, batch_size, -(-wanted // batch_size) * batch_size)

    @property
    def per_view(self) -> int:
        """Shards of one view."""
        return -(-self.number // self.size)

    @property
    def total(self) -> int:
        """Tasks."""
        return self.per_view * self.views

    def share(self, rank: int, world_size: int, done: Collection[int]) -> dict[int, list[int]]:
        """What is left to this process: rank r of R takes tasks r, r + R, ...; shards by view."""
        tasks: dict[int, list[int]] = {}
        for task in range(rank, self.total, world_size):
            if task not in done:
                tasks.setdefault(task // self.per_view, []).append(task % self.per_view)
        return tasks

    def inputs(self, shard: int) -> range:
        """The inputs of a shard."""
        return range(shard * self.size, min((shard + 1) * self.size, self.number))

    def batches(self, shards: list[int]) -> Iterator[tuple[int, range, bool]]:
        """The batches of some shards: the shard, its inputs in the batch, and whether the shard ends there."""
        for shard in shards:
            inputs = self.inputs(shard)
            for start in range(inputs.start, inputs.stop, self.batch_size):
                part = range(start, min(start + self.batch_size, inputs.stop))
                yield shard, part, part.stop == inputs.stop

    def as_dict(self) -> dict[str, int]:
        """Plain values."""
        return asdict(self)
