"""A checksum inside a file of torch: the comment of the zip archive that such a file is, which all readers skip."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

from longtail_lightning._errors import LongTailError

State = Literal["whole", "no checksum"]
# The end of an archive: its signature, sixteen bytes, and the length of the comment that follows.
_END = b"PK\x05\x06"
_END_BYTES = 22
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
        write: gets something with a `write` method.
    """
    hashing = _Hashing(file)
    write(hashing)
    file.seek(-2, 2)
    file.write(struct.pack("<H", _COMMENT_BYTES))
    file.write(_MARK + hashing.digest.hexdigest().encode())


def check_members(path: Path) -> None:
    """Compare each member of an archive with its CRC, as torch does not; a file of another kind passes.

    Args:
        path: a file of torch.
    """
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            if file.read(4) == b"PK\x03\x04":
                raise DamagedFileError(path, "its end is missing")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:  # torch packs nothing
                    raise DamagedFileError(path, f"{member.filename} is compressed")
                with archive.open(member) as file:
                    while file.read(_BLOCK):  # compares the CRC at its end
                        pass
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise DamagedFileError(path, " ".join(str(error).split()) or type(error).__name__) from error


def check_checksum(path: Path) -> State:
    """Compare a file with the checksum that it carries.

    Args:
        path: a file of torch.

    Returns:
        Whether there is one.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - _END_BYTES - _COMMENT_BYTES))
        tail = file.read()
        comment, length = tail[_END_BYTES:], tail[_END_BYTES - 2 : _END_BYTES]
        if comment[: len(_MARK)] != _MARK and not (
            tail[:4] == _END and length == struct.pack("<H", _COMMENT_BYTES) and len(comment) == _COMMENT_BYTES
        ):
            return "no checksum"
        digest = hashlib.sha256()
        file.seek(0)
        left = size - _COMMENT_BYTES - 2
        while left and (block := file.read(min(_BLOCK, left))):
            digest.update(block)
            left -= len(block)
    digest.update(b"\0\0")
    if comment != _MARK + digest.hexdigest().encode() or length != struct.pack("<H", _COMMENT_BYTES):
        raise DamagedFileError(path, "its checksum differs")
    return "whole"


class _Hashing:
    """Writes to a file, and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, block: Any) -> int:
        self.digest.update(block)
        return self._file.write(block)
