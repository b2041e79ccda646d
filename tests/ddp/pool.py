"""A pool of gloo processes: start once, run many functions."""

from __future__ import annotations

import os
import queue
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch.multiprocessing as mp


class Pool:
    """Run a top-level function on all ranks at once; results come in rank order."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size

    def __enter__(self) -> Pool:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        context = mp.get_context("spawn")
        self._tasks = [context.SimpleQueue() for _ in range(self.world_size)]
        self._results = context.Queue()
        self._processes = [
            context.Process(
                target=_serve, args=(rank, self.world_size, port, self._tasks[rank], self._results), daemon=True
            )
            for rank in range(self.world_size)
        ]
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *error: object) -> None:
        for tasks in self._tasks:
            tasks.put(None)
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call `function(*args)` on each rank.

        Arguments and results cross processes: pass plain values, not tensors that live in shared memory.
        """
        for tasks in self._tasks:
            tasks.put((function, args))
        answers = dict(self._answer() for _ in range(self.world_size))
        for rank, (ok, value) in answers.items():
            assert ok, f"rank {rank} failed:\n{value}"
        return [answers[rank][1] for rank in range(self.world_size)]

    def _answer(self) -> Any:
        for _ in range(180):
            with suppress(queue.Empty):
                return self._results.get(timeout=1)
            ended = [f"rank {rank} by {p.exitcode}" for rank, p in enumerate(self._processes) if p.exitcode is not None]
            assert not ended, f"a process has ended: {', '.join(ended)}"
        raise TimeoutError("no answer in 180 seconds")


def _serve(rank: int, world_size: int, port: int, tasks: Any, results: Any) -> None:
    # The environment that torchrun makes, so that Lightning's Trainer(strategy="ddp") feels at home.
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size),
        GROUP_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="tests",
    )  # fmt: skip
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    while (task := tasks.get()) is not None:
        function, args = task
        try:
            results.put((rank, (True, function(*args))))
        except BaseException:
            results.put((rank, (False, traceback.format_exc())))
    torch.distributed.destroy_process_group()
