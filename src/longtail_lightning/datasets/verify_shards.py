"""Whether the files of a folder of shards are still what was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import size_and_checksum
from longtail_lightning._open_file import not_a_file
from longtail_lightning.datasets.shard_manifest import MANIFEST, read_manifest


def verify_shards(path: str | Path) -> dict[str, str]:
    """What is wrong with each damaged file of a folder of shards; empty when no file has changed since it was written.

    Every file is read from end to end, and compared with the size and the checksum in `shards.json`, which has one
    of its own.

    Args:
        path: the folder that `ltl data prepare` wrote.

    Examples:
        >>> from tempfile import mkdtemp
        >>> from longtail_lightning import SyntheticLongTail, prepare_shards
        >>> folder = Path(mkdtemp())
        >>> _ = prepare_shards(SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2), folder)
        >>> verify_shards(folder)
        {}
        >>> (folder / "val-index.arrow").unlink()
        >>> verify_shards(folder)
        {'val-index.arrow': 'is missing'}

    Raises:
        LongTailError: when there is no such folder, `shards.json` itself is damaged, or has no checksums, as those of
            the first releases.
    """
    root = Path(path).expanduser()
    manifest = read_manifest(root)
    if not manifest.get("files") or "sha256" not in manifest:
        raise LongTailError(
            f"{root / MANIFEST} has no checksums, as an earlier release wrote it: run `ltl data prepare` again, into "
            "another folder."
        )
    return {name: wrong for name, told in manifest["files"].items() if (wrong := damage_of(root / name, told))}


def damage_of(path: Path, written: Mapping[str, object]) -> str:
    """What is wrong with a file; nothing when it has the size and the checksum that were noted."""
    try:
        if (kind := not_a_file(path)) is not None:
            return f"cannot be read, {kind}"
        found = size_and_checksum(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read, {error.strerror}"
    if found["bytes"] != written.get("bytes"):
        return f"has {found['bytes']} bytes instead of {written.get('bytes')}"
    return "" if found["sha256"] == written.get("sha256") else "is not what was written"
