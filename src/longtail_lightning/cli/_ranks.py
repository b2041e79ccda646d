"""Several processes of one run: none outlives the others, and the one that failed is named."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from subprocess import Popen, TimeoutExpired
from typing import Any

import lightning as L

from longtail_lightning._distributed import LOST_PROCESS, is_lost_connection
from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import on_death_of_a_child, processes_started_by
from longtail_lightning.cli._causes import mark

_MAIN = "LTL_MAIN_PROCESS"
# As long as a process has to end by itself once another is gone: it closes its files, and tells what it knows.
_GRACE = 15.0


class EndOfRun(L.Callback):
    """Note which error ended the run, and name the process that has died."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if is_lost_connection(exception):
            exception.__cause__ = LongTailError(_told(processes_started_by(trainer)))
        mark(exception)


def _told(processes: Sequence[Popen[Any]]) -> str:
    """Which process has died, if the system has killed one; one that failed has a message of its own."""
    for rank, process in enumerate(processes, start=1):
        try:
            process.wait(_GRACE / len(processes))
        except TimeoutExpired:
            continue
        if (status := process.returncode) < 0:
            return (
                f"Process {rank} of this run has been killed ({signal.strsignal(-status)}): most often the machine ran "
                "out of memory, so use a smaller batch_size, fewer num_workers or fewer processes."
            )
    return LOST_PROCESS


def end_together() -> None:
    """End the processes that Lightning starts when the one that started them is gone, and the other way around."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.environ[_MAIN] = str(os.getpid())
        on_death_of_a_child(lambda processes: _end(_told(processes)))
    elif _MAIN in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ and sys.platform != "win32":
        threading.Thread(target=_watch, args=(int(os.environ[_MAIN]),), daemon=True).start()


def _watch(main: int) -> None:
    # It may be gone already: importing torch takes seconds.
    while os.getppid() == main:
        time.sleep(1)
    _end(LOST_PROCESS)


def _end(told: str) -> None:
    """End this process, if it does not do so by itself: it may wait for one that is gone."""
    time.sleep(_GRACE)
    print(f"ltl: error: {told}", file=sys.stderr, flush=True)
    os._exit(2)
