"""What the folder of a memory says of itself: `memory.json`, which is replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import size_and_checksum
from longtail_lightning.features import verify_bank

MANIFEST = "memory.json"
FORMAT = 1
_FIELDS = {"fingerprint": dict, "index": dict, "edits": str, "sources": list, "files": dict}


class DamagedMemoryError(LongTailError):
    """What is in the folder of a memory is not what was written."""

    @classmethod
    def of(cls, folder: Path, reason: object) -> DamagedMemoryError:
        """The error of a memory, in one sentence."""
        return cls(f"The memory {folder} is damaged ({reason}): take a copy, or build it again.")


def all_files(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Size and checksum of every file but those of the banks, which have their own."""
    indexes = {f"{told['folder']}/{told['index']['name']}": told["index"] for told in manifest["sources"]}
    return {**manifest["files"], **indexes}


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of itself; every value has its type, and no file lies elsewhere."""
    path = folder / MANIFEST
    if not path.is_file():
        raise LongTailError(f"{folder} is not a memory, as it has no {MANIFEST}: make one with `ltl memory build`.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise DamagedMemoryError.of(folder, f"{MANIFEST}: {error}") from error
    if manifest.get("format") != FORMAT:
        raise LongTailError(
            f"The memory {folder} has format {manifest.get('format')}, this version of the library reads {FORMAT}: "
            "build it again."
        )
    wrong = [key for key, kind in _FIELDS.items() if not isinstance(manifest.get(key), kind)]
    if wrong or not all(map(_is_source, manifest["sources"])):
        raise DamagedMemoryError.of(folder, f"{MANIFEST} does not tell its {wrong[0] if wrong else 'sources'}")
    names = [manifest["edits"], *(told["folder"] for told in manifest["sources"])]
    names += [told["index"]["name"] for told in manifest["sources"]]
    files = [part for name in manifest["files"] for part in name.split("/")]
    if elsewhere := [name for name in (*names, *files) if Path(name).name != name]:
        raise DamagedMemoryError.of(folder, f"{MANIFEST} names a file elsewhere, {elsewhere[0]!r}")
    return manifest


def _is_source(told: Any) -> bool:
    kinds = {"name": str, "folder": str, "rows": int, "index": dict}
    index = {"name": str, "bytes": int, "sha256": str, "vectors": int}
    return (
        isinstance(told, dict)
        and all(isinstance(told.get(key), kind) for key, kind in kinds.items())
        and all(isinstance(told["index"].get(key), kind) for key, kind in index.items())
    )


def verify_memory(path: str | Path) -> dict[str, str]:
    """What is wrong with each damaged file of a memory; empty when no file has changed since it was written.

    Args:
        path: its folder.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    found = {} if manifest.get("sha256") == manifest_checksum(manifest) else {MANIFEST: "is not what was written"}
    for name, file in all_files(manifest).items():
        try:
            there = size_and_checksum(folder / name)
        except OSError as error:
            found[name] = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read, {error.strerror}"
            continue
        if there["bytes"] != file["bytes"]:
            found[name] = f"has {there['bytes']} bytes instead of {file['bytes']}"
        elif there["sha256"] != file["sha256"]:
            found[name] = "is not what was written"
    for told in manifest["sources"]:
        bank = f"{told['folder']}/bank"
        found |= {f"{bank}/{name}": what for name, what in verify_bank(folder / bank).items()}
    if found and read_manifest(folder) != manifest:  # another process has saved meanwhile
        return verify_memory(path)
    return found


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Of what a manifest tells, without its own checksum."""
    told = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
