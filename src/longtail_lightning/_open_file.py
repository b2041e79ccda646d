"""Open a file that may be anything: a pipe or a device in its place is refused, since reading it may never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from longtail_lightning._errors import LongTailError

_KINDS = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a pipe, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


class NotAFileError(OSError):
    """Something else stands where a file is expected."""

    @property
    def strerror(self) -> str:  # type: ignore[override]
        """What it is, where other errors of the system say what went wrong."""
        return str(self.args[0])


def open_file(path: str | Path) -> IO[bytes]:
    """Open a file to read its bytes; a link is followed.

    Raises:
        OSError: when there is no such file, or it may not be read; `NotAFileError` when it is something else.
    """
    return open(path, "rb", opener=_opened)


def not_a_file(path: str | Path) -> str | None:
    """What stands where a file is expected; None for a file, and when there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _kind(mode)


def require_file(path: str | Path) -> None:
    """Refuse what is no file, where another library opens it."""
    if (kind := not_a_file(path)) is not None:
        raise LongTailError(f"{path} cannot be read, {kind}: give a file.")


def _opened(path: str, flags: int) -> int:
    # A pipe is opened without waiting for somebody who writes to it; reading files never waits anyway.
    try:
        handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if (kind := not_a_file(path)) is not None:  # a socket cannot be opened at all
            raise NotAFileError(kind) from error
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise NotAFileError(_kind(mode))
    return handle


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "it is not a file")
