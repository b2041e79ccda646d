"""Run one task on several processes: which of them does it, and how an error in one ends all."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch.distributed as dist

from longtail_lightning._errors import LongTailError

Result = TypeVar("Result")


def rank_and_world_size() -> tuple[int, int]:
    """Rank of this process, and the number of processes; (0, 1) without a process group.

    Examples:
        >>> rank_and_world_size()
        (0, 1)
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def on_rank_zero(work: Callable[[], Result]) -> Result:
    """Run a function on the first process while the others wait; all return its result, or raise its error."""
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return work()
    answer: list[Any] = [None, None]
    if rank == 0:
        try:
            answer[0] = work()
        except LongTailError as error:
            answer[1] = error
    dist.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    return cast(Result, answer[0])


def raise_on_all_ranks(work: Callable[[], Result]) -> Result:
    """Run a function on all processes; a `LongTailError` on any of them is raised on all (the first, if several)."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return work()
    result, error = None, None
    try:
        result = work()
    except LongTailError as caught:
        error = caught
    errors: list[LongTailError | None] = [None] * world_size
    dist.all_gather_object(errors, error)
    for told in errors:
        if told is not None:
            raise told
    return cast(Result, result)


LOST_PROCESS = (
    "Another process of this run has ended, and this one cannot go on alone: the message of the other tells why; if it "
    "has none, the system has killed it, most often because the memory ran out."
)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process of the group is gone, which torch has no single type for.

    Examples:
        >>> is_lost_connection(RuntimeError("[gloo/transport/tcp/pair.cc:545] Connection closed by peer"))
        True
    """
    if isinstance(error, dist.DistNetworkError):
        return True
    gone = r"(?s)(?:gloo|NCCL|TCPStore).*?(?:closed by peer|reset by peer|Broken pipe|remote process exited)"
    return isinstance(error, RuntimeError) and re.search(gone, str(error)) is not None
