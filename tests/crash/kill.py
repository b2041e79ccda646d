"""Run a writer in a process of its own that is killed, or finds the disk full, at the nth of its file events."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from longtail_lightning import LongTailError

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
DONE, TOLD, FAULT = 0, 70, 71
KILLED = -signal.SIGKILL


def run(write: Callable[[], object], folder: Path, event: int, *, full: bool = False) -> int:
    """How the process ended: `KILLED`; `DONE` without the event; `TOLD` in one sentence; `FAULT` with a traceback.

    Args:
        write: writes to the folder.
        folder: only events on its files count.
        event: which one, from 0. It does not happen: the process ends, or is told, just before.
        full: the disk is full from that event on, in the place of the kill.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads, which wait here
        child = os.fork()
    if child == 0:
        sys.addaudithook(_hook(str(folder), event, full))
        try:
            write()
            os._exit(DONE)
        except LongTailError:
            os._exit(TOLD)
        except BaseException:
            traceback.print_exc()
            os._exit(FAULT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _hook(folder: str, event: int, full: bool) -> Callable[[str, tuple[object, ...]], None]:
    def hook(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal event
        if name not in EVENTS or not str(arguments[0]).startswith(folder):
            return
        takes_space = name == "os.mkdir" or (name == "open" and _writes(arguments))
        if full and not takes_space:
            return
        event -= 1
        if event < 0:
            if not full:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    return hook


def _writes(arguments: tuple[object, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    return any(letter in str(mode or "") for letter in "wax+") or bool(
        isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )
