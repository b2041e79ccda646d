"""What a folder of shards says of itself: `shards.json`, which is written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.read_text import parse_json, read_text

MANIFEST = "shards.json"
VERSION = 1

_AGAIN = "copy it again, or run `ltl data prepare` again"


class DamagedShardsError(LongTailError):
    """What is in a folder of shards is not what was written."""

    def __init__(self, message: str = "", *, folder: Path | None = None, files: Collection[str] = ()) -> None:
        super().__init__(message)
        self.folder = folder
        self.files = tuple(files)

    @classmethod
    def of(cls, file: Path, reason: object) -> DamagedShardsError:
        """The error of a file, in one sentence."""
        return cls(f"{file} is damaged ({reason}): {_AGAIN}.", folder=file.parent, files=[file.name])


def read_manifest(root: Path) -> dict[str, Any]:
    """What a prepared folder holds; every value has the type that it should have, and no file lies elsewhere."""
    file = root / MANIFEST
    if not file.is_file():
        begun = any(root.glob("*.arrow")) if root.is_dir() else False
        fix = (
            "it was not finished, run the same `ltl data prepare` again" if begun else "make it with `ltl data prepare`"
        )
        raise LongTailError(f"{root} is not a folder of shards ({MANIFEST} is missing): {fix}.")
    try:
        manifest = parse_json(read_text(file), file)
    except LongTailError as error:
        raise DamagedShardsError.of(file, str(error).removeprefix(f"{file} ").rstrip(".")) from error
    if not isinstance(manifest, dict):
        raise DamagedShardsError.of(file, f"it holds a {type(manifest).__name__}")
    if manifest.get("version") != VERSION:
        raise LongTailError(f"{file} has version {manifest.get('version')}, this release reads version {VERSION}.")
    if (wrong := _wrong(manifest)) is not None:
        raise DamagedShardsError.of(file, wrong)
    return manifest


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Of what a manifest tells, without its own checksum."""
    told = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def files_of(manifest: Mapping[str, Any]) -> list[str]:
    """The names of all files that a manifest lists."""
    splits = manifest["splits"].values()
    return [name for split in splits for name in (*(shard["file"] for shard in split["shards"]), split["index"])]


def _wrong(manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with a manifest; None when nothing is."""
    if "sha256" in manifest and manifest["sha256"] != manifest_checksum(manifest):
        return "it is not what was written"
    names = manifest.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return "it has no class_names"
    splits = manifest.get("splits")
    if not isinstance(splits, dict) or not splits or not all(map(_is_split, splits.values())):
        return "it does not tell the files of its splits"
    for name in files_of(manifest):
        if Path(name).name != name or name in ("", ".."):
            return f"it names a file elsewhere, {name!r}"
    files = manifest.get("files", {})
    if not isinstance(files, dict) or not all(map(_is_checksum, files.values())):
        return "it does not tell the sizes of its files"
    if files and set(files) != set(files_of(manifest)):
        return "it does not tell the sizes of all its files"
    return None


def _is_split(split: object) -> bool:
    if not isinstance(split, dict) or not isinstance(split.get("index"), str):
        return False
    shards = split.get("shards")
    if not isinstance(shards, list) or not shards or not all(isinstance(shard, dict) for shard in shards):
        return False
    return all(isinstance(shard.get("file"), str) and _is_number(shard.get("images")) for shard in shards)


def _is_checksum(told: object) -> bool:
    return isinstance(told, dict) and _is_number(told.get("bytes")) and isinstance(told.get("sha256"), str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
