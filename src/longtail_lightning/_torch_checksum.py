"""A checksum inside a file of torch: the comment of the zip archive that such a file is, which all readers skip."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from collections.abc import Callable
from typing import IO, Any, Literal

from longtail_lightning._errors import LongTailError

State = Literal["whole", "no checksum"]
_START = b"PK\x03\x04"
# The end of an archive: its signature, sixteen bytes, and the length of the comment that follows.
_END = b"PK\x05\x06"
_END_BYTES = 22
_LONGEST_COMMENT = 0xFFFF
_MARK = b"longtail-lightning sha256:"
_COMMENT_BYTES = len(_MARK) + 64
_BLOCK = 1 << 20


class DamagedFileError(LongTailError):
    """A file is not what was written.

    Args:
        path: the file.
        what: what was noticed.
    """

    def __init__(self, path: Any = None, what: str = "") -> None:
        self.path, self.what = path, what
        super().__init__(f"{path} is damaged ({what}): give another file, or write it again.")


def write_with_checksum(file: IO[bytes], write: Callable[[Any], Any]) -> None:
    """Write an archive to an open file, and its checksum behind it.

    Args:
        file: an empty file, open for reading and writing.
        write: gets something with the methods `write` and `flush`.
    """
    hashing = _Hashing(file)
    try:
        write(hashing)
    except Exception:
        if hashing.error is not None:  # torch raises another one, which does not tell that the disk is full
            raise hashing.error from None
        raise
    file.seek(-2, 2)
    file.write(struct.pack("<H", _COMMENT_BYTES))
    file.write(_MARK + hashing.digest.hexdigest().encode())


def check_members(file: IO[bytes]) -> None:
    """Compare each member of an archive with its CRC, as torch does not; a file of another kind passes.

    Args:
        file: an open file of torch. It is opened once: its path may be replaced meanwhile.
    """
    if _comment(file) is None:
        return
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:  # torch packs nothing
                    raise DamagedFileError(file.name, f"{member.filename} is compressed")
                with archive.open(member) as content:
                    while content.read(_BLOCK):  # compares the CRC at its end
                        pass
    except DamagedFileError:
        raise
    except Exception as error:  # zipfile has no error of its own for each field of an archive that may be damaged
        raise DamagedFileError(file.name, " ".join(str(error).split()) or type(error).__name__) from error


def check_checksum(file: IO[bytes]) -> State:
    """Compare a file with the checksum that it carries.

    Args:
        file: an open file of torch.

    Returns:
        Whether there is one.
    """
    comment = _comment(file)
    if comment is None or not (comment.startswith(_MARK) or len(comment) == _COMMENT_BYTES):
        return "no checksum"
    digest = hashlib.sha256()
    left = file.seek(0, os.SEEK_END) - len(comment) - 2
    file.seek(0)
    while left and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    digest.update(b"\0\0")  # the length of the comment, before there was one
    if comment != _MARK + digest.hexdigest().encode():
        raise DamagedFileError(file.name, "its checksum differs")
    return "whole"


def _comment(file: IO[bytes]) -> bytes | None:
    """The comment of an archive; None for a file of another kind."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(len(_START))
    file.seek(max(0, size - _END_BYTES - _LONGEST_COMMENT))
    tail = file.read()
    if start != _START:
        return None
    place = tail.rfind(_END)
    comment = tail[place + _END_BYTES :]
    if place < 0 or tail[place + _END_BYTES - 2 : place + _END_BYTES] != struct.pack("<H", len(comment)):
        raise DamagedFileError(file.name, "its end is missing")
    return comment


class _Hashing:
    """Writes to a file, and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self.error: OSError | None = None
        self._file = file

    def write(self, block: Any) -> int:
        self.digest.update(block)
        try:
            return self._file.write(block)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
