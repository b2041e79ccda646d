"""Whether the files of a bank are still what was written."""

from __future__ import annotations

from pathlib import Path

from longtail_lightning._files import size_and_checksum
from longtail_lightning.features._storage import HEADER, header_checksum, read_header


def verify_bank(path: str | Path) -> dict[str, str]:
    """What is wrong with each damaged file of a bank; empty when no file has changed since it was written.

    Every file is read from end to end, and compared with the size and the checksum in `bank.json`, which has one of
    its own.

    Args:
        path: folder of the bank.

    Examples:
        >>> import torch
        >>> from tempfile import mkdtemp
        >>> from longtail_lightning import FeatureBank
        >>> folder = FeatureBank.from_arrays(torch.randn(3, 8), [0, 2, 0]).save(mkdtemp())
        >>> verify_bank(folder)
        {}
        >>> (folder / "labels.npy").unlink()
        >>> verify_bank(folder)
        {'labels.npy': 'is missing'}
    """
    header = read_header(Path(path))
    found = {} if header.get("sha256") == header_checksum(header) else {HEADER: "is not what was written"}
    for file in header["files"].values():
        if wrong := _wrong(Path(path) / file["name"], file):
            found[file["name"]] = wrong
    if found and read_header(Path(path)) != header:  # another bank has been saved over it meanwhile
        return verify_bank(path)
    return found


def _wrong(path: Path, written: dict[str, object]) -> str:
    try:
        found = size_and_checksum(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read, {error.strerror}"
    if found["bytes"] != written["bytes"]:
        return f"has {found['bytes']} bytes instead of {written['bytes']}"
    return "" if found["sha256"] == written["sha256"] else "is not what was written"
