"""The size of an image from the header of its file, before anything is decoded."""

from __future__ import annotations

import struct
from typing import NamedTuple


class JpegFrame(NamedTuple):
    """What the header of a JPEG says."""

    height: int
    width: int
    channels: int
    has_exif: bool


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """The frame of a JPEG whose header is well-formed; None for any other file.

    Decoders look for the next segment behind garbage, each in its own way, and would find another frame there than
    this function. So it gives up where a segment does not begin right behind the one before.
    """
    place, has_exif = 2, False
    while data[:2] == b"\xff\xd8" and data[place : place + 1] == b"\xff" and len(data) >= place + 10:
        marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack(">HHB", data[place + 5 : place + 10])
            return JpegFrame(height, width, channels, has_exif)
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA or marker == 0xFF or size < 2:  # markers without a segment
            return None
        has_exif |= marker == 0xE1 and data[place + 4 : place + 8] == b"Exif"
        place += 2 + size
    return None
