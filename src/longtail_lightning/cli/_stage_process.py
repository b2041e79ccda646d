"""A stage as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError

# A stage that resumes finds its own files.
_QUIET = "ignore:Experiment logs directory,ignore:Checkpoint directory"


def locked(folder: Path, file: int) -> Sequence[int]:
    """Lock a folder for this process and those that inherit the open file; return the files to inherit."""
    try:
        import fcntl
    except ImportError:  # Windows
        return ()
    for _ in range(60):  # loading processes notice after some seconds that their parent was killed
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.25)
        except OSError:  # a file system without locks
            return ()
        else:
            return (file,)
    raise LongTailError(f"Another process runs {folder}: wait for it, or begin a new version with --stages.new.")


def run_process(command: Sequence[str], inherited: Sequence[int] = ()) -> int:
    """Run a command to its end and hand signals on; 130 and 143 after Ctrl-C and SIGTERM."""
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _: Any) -> None:
        received.append(number)
        if process is not None and not (number == signal.SIGINT and _in_front()):
            process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        quiet = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), _QUIET)))
        process = subprocess.Popen(command, env=os.environ | {"PYTHONWARNINGS": quiet}, pass_fds=inherited)
        for number in received:  # the signal came before the process started
            process.send_signal(number)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        return 128 + received[0]
    return status if status >= 0 else 128 - status


def _in_front() -> bool:
    """Whether the terminal sends Ctrl-C to this process and its children alike."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
