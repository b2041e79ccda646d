"""Small files that claim to be huge, and things that are no files at all."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from pathlib import Path

from PIL import Image

SIDE = 20_000


def png_bomb() -> bytes:
    """20000 x 20000 black pixels, 1.2 GB when they are decoded, in a kilobyte or so."""
    rows = zlib.compressobj(9)
    row = bytes(1 + (SIDE + 7) // 8)
    data = b"".join(rows.compress(row) for _ in range(SIDE)) + rows.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (header, data, b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_bomb(*, between: bytes = b"") -> bytes:
    """A JPEG of 1 kB whose header says 20000 x 20000; `between` stands in front of that header."""
    data = bytearray(small("JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", SIDE, SIDE)
    return bytes(data[:frame] + between + data[frame:])


def gif_bomb() -> bytes:
    """A GIF of 20000 x 20000."""
    data = bytearray(small("GIF"))
    data[6:10] = struct.pack("<HH", SIDE, SIDE)
    return bytes(data)


def tiff_bomb() -> bytes:
    """A TIFF of 20000 x 20000, one bit each, and no strips to speak of."""
    tags = [(256, SIDE), (257, SIDE), (258, 1), (259, 1), (262, 1), (273, 8), (278, SIDE), (279, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def webp_bomb() -> bytes:
    """A lossless WebP of 16383 x 16383, which is as large as they get."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", lossless=True)
    data = bytearray(file.getvalue())
    place = data.index(b"VP8L") + 9
    (bits,) = struct.unpack("<I", data[place : place + 4])
    data[place : place + 4] = struct.pack("<I", (bits >> 28 << 28) | 16_382 << 14 | 16_382)
    return bytes(data)


def small(kind: str) -> bytes:
    """A whole image of 16 x 16."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    return file.getvalue()


BOMBS = {"jpg": jpeg_bomb, "png": png_bomb, "gif": gif_bomb, "tif": tiff_bomb, "webp": webp_bomb}


def make_pipe(path: Path) -> str:
    """A pipe that nobody writes to; gives what messages say of it."""
    os.mkfifo(path)
    return "it is a pipe, not a file"


def make_socket(path: Path) -> str:
    """A socket; its path may not be long, so it is made from within its folder."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)
    return "it is a socket, not a file"


def make_device(path: Path) -> str:
    """A link to a device that never ends."""
    path.symlink_to("/dev/zero")
    return "it is a device, not a file"


def make_folder(path: Path) -> str:
    """A folder."""
    path.mkdir()
    return "it is a folder"


NO_FILES = [make_pipe, make_socket, make_device, make_folder]
