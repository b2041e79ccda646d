"""Write a file whole or not at all: beside its place, then renamed; with locks and checksums."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from longtail_lightning._errors import LongTailError

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_BLOCK = 1 << 20
# File systems without locks raise one of these.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_held: set[int] = set()


def replace_file(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file as a whole: a reader sees the old one or the new one, never a part.

    Args:
        path: the file; folders above it are made.
        write: gets the open file.
    """
    path = Path(path)
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        unfinished, file = _begin(path)
        try:
            with file:
                write(file)
                to_disk(file)
                os.replace(unfinished, path)
            _folder_to_disk(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def _begin(path: Path) -> tuple[Path, IO[bytes]]:
    """An unfinished file, locked, so that others see that its writer lives."""
    while True:
        # Of its own for each writer: threads share the number of their process, and containers count from 1.
        unfinished = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
        file = open(unfinished, "w+b")  # noqa: SIM115
        with suppress(OSError):  # a file system without locks
            if fcntl is not None:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if unfinished.exists():  # else somebody took it for abandoned before it was locked
            return unfinished, file
        file.close()


def _remove_abandoned(path: Path) -> None:
    """Delete the unfinished files of killed writers of a file."""
    for unfinished in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError), open(unfinished, "rb") as file:  # it has ended meanwhile, or is locked
            if fcntl is not None:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                unfinished.unlink()


def replace_file_with_checksum(path: str | Path, write: Callable[[Any], Any]) -> dict[str, Any]:
    """Write a file as a whole, and return its size and checksum, as `size_and_checksum` does.

    Args:
        path: the file.
        write: gets something with a `write` method.
    """
    hashing = _Hashing()

    def write_and_hash(file: IO[bytes]) -> None:
        hashing.file = file
        write(hashing)

    replace_file(path, write_and_hash)
    return hashing.result()


def size_and_checksum(path: Path) -> dict[str, Any]:
    """Size of a file, and its SHA-256, which `sha256sum` prints too."""
    hashing = _Hashing()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            hashing.write(block)
    return hashing.result()


def remove_unfinished(folder: Path) -> None:
    """Delete the unfinished files of killed processes; lock the folder first, or live processes lose theirs."""
    for unfinished in folder.glob(".*.part"):
        unfinished.unlink(missing_ok=True)


def remove_abandoned_lock(folder: Path) -> None:
    """Delete the lock of a process that has died, if nobody writes to the folder, and it may be written to."""
    if (folder / LOCK).exists():
        with suppress(LongTailError), locked(folder):
            pass  # deleted at the end


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file; file names in it that are not UTF-8 keep their bytes."""
    return replace_file(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def write_json(path: str | Path, value: Any) -> Path:
    """Write a JSON file."""
    return write_text(path, json.dumps(value, indent=1) + "\n")


def to_disk(file: IO[bytes]) -> None:
    """Wait until everything that was written lies on the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def writable(path: str | Path) -> Iterator[None]:
    """Turn an error of the file system into one sentence about this path."""
    try:
        yield
    except OSError as error:
        raise LongTailError(f"{path} cannot be written ({error.strerror}): give another place.") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder; the lock ends with this process, even if that is killed.

    Args:
        folder: made when it does not exist. Readers need no lock.
    """
    file = folder / LOCK
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _lock(file)
    try:
        yield
    finally:
        # Deleted while the lock is held: a process that waits for it sees that the file is gone.
        file.unlink(missing_ok=True)
        _held.discard(handle)
        os.close(handle)


def _lock(file: Path) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise LongTailError(
                f"Another process is writing to {file.parent}: wait until it has ended, or give another place."
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(handle)
                raise
        # Its last owner may have deleted the file before it was locked here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), file.stat()):
                _held.add(handle)
                return handle
        os.close(handle)


def _let_go_in_child() -> None:
    """Release the locks in a forked child: loader workers outlive a killed parent by seconds, and would hold them."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def _folder_to_disk(folder: Path) -> None:
    """Wait until a new file name is on the disk: names are part of the folder."""
    with suppress(OSError):  # some systems sync no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Hashing:
    """Writes to a file, and hashes what it writes."""

    file: IO[bytes] | None = None

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, block: bytes) -> None:
        if self.file is not None:
            self.file.write(block)
        self._digest.update(block)
        self._size += len(block)

    def result(self) -> dict[str, Any]:
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}
