"""The folder of a memory: one manifest, replaced as a whole, that names everything else; never pickle."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import (
    locked,
    remove_unfinished,
    replace_file_with_checksum,
    size_and_checksum,
    writable,
    write_json,
)
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._storage import DAMAGED, read_array
from longtail_lightning.features._strings import Column, Strings, column_of_arrays
from longtail_lightning.retrieval._memory_manifest import (
    FORMAT,
    MANIFEST,
    DamagedMemoryError,
    all_files,
    manifest_checksum,
    read_manifest,
    verify_memory,
)
from longtail_lightning.retrieval._source import Source
from longtail_lightning.retrieval.faiss_index import FaissIndex
from longtail_lightning.retrieval.index import VectorIndex
from longtail_lightning.retrieval.qdrant_index import QdrantIndex

_INDEXES: dict[str, type[VectorIndex]] = {"FaissIndex": FaissIndex, "QdrantIndex": QdrantIndex}
_OURS = re.compile("(source|edits)-[0-9a-f]{8}")
_CHECKED = 2 * 10**9
"""Bytes of index files that are compared with their checksums whenever a memory is opened."""


@dataclass(frozen=True)
class Opened:
    """What a folder holds."""

    like: VectorIndex
    sources: dict[str, Source]
    texts: Sequence[str]
    fingerprint: dict[str, Any]
    edits: str


# -- writing -----------------------------------------------------------------------------------------


def write_memory(
    folder: Path,
    sources: Mapping[str, Source],
    texts: Sequence[str],
    like: VectorIndex,
    fingerprint: Mapping[str, Any],
    known: str | None,
) -> str:
    """Make a folder this memory. Stopped anywhere, it is the memory that it was before, or this one.

    Args:
        folder: of the memory.
        sources: all of them; banks and indexes that are in the folder already are not written again.
        texts: the different ones.
        like: an index with the settings of all.
        fingerprint: of the features.
        known: the state of the folder that the memory was read from, None for another folder.

    Returns:
        The state that it has now.
    """
    if folder.is_file():
        raise LongTailError(f"{folder} is a file, a memory is a folder: give another path.")
    with locked(folder), writable(folder):
        before = _there(folder)
        if known is not None and before.get("edits") != known:
            raise LongTailError(
                f"Another process has changed the memory {folder} since it was loaded: load it again and repeat the "
                "changes, or save to another folder."
            )
        kept = {told["folder"] for told in before.get("sources", ())} if known is not None else set()
        edits = f"edits-{os.urandom(4).hex()}"
        (folder / edits).mkdir()
        files: dict[str, Any] = {}
        for name, array in Strings.of(texts).arrays("texts").items():
            files[f"{edits}/{name}.npy"] = _write_array(folder / edits / f"{name}.npy", array)
        told = []
        for number, source in enumerate(sources.values()):
            if source.folder not in kept:
                if source.folder is not None and source.index.external:  # that one is of the other folder
                    source.index = source.indexed_anew()
                source.folder, source.index_file = f"source-{os.urandom(4).hex()}", None
                source.bank.save(folder / source.folder / "bank")
            told.append(_write_source(folder, edits, number, source, files))
        manifest = {
            "format": FORMAT,
            "fingerprint": dict(fingerprint),
            "index": {"class": type(like).__name__, "settings": like.settings()},
            "edits": edits,
            "sources": told,
            "files": files,
        }
        # From here on the folder is the new memory.
        write_json(folder / MANIFEST, {**manifest, "sha256": manifest_checksum(manifest)})
        with suppress(OSError):  # the next one who saves can do it
            _remove_the_rest(folder, manifest)
    return edits


def _write_source(folder: Path, edits: str, number: int, source: Source, files: dict[str, Any]) -> dict[str, Any]:
    for key, array in (("alive", source.alive), ("text_numbers", source.text_numbers)):
        files[f"{edits}/{number}.{key}.npy"] = _write_array(folder / edits / f"{number}.{key}.npy", array)
    place = folder / str(source.folder)
    # Removed items stay in the file of an index, until it is made of other ones for the greater part.
    if source.index_file is None or 2 * len(source) < source.index_file["vectors"]:
        name = f"index-{os.urandom(4).hex()}"
        written = source.index.save(place / name)
        source.index_file = {"name": name, "vectors": len(source), **written}
    return {"name": source.name, "folder": source.folder, "rows": len(source.bank), "index": source.index_file}


def _write_array(path: Path, array: np.ndarray) -> dict[str, Any]:
    return replace_file_with_checksum(path, lambda file: np.save(file, array, allow_pickle=False))


def _remove_the_rest(folder: Path, manifest: Mapping[str, Any]) -> None:
    named = {told["folder"]: told["index"]["name"] for told in manifest["sources"]}
    for path in folder.iterdir():
        # Other things may lie in the folder, even ones with such a name.
        if _OURS.fullmatch(path.name) and path.is_dir() and path.name not in (*named, manifest["edits"]):
            shutil.rmtree(path)
    for name, index in named.items():
        for path in (folder / name).glob("index-*"):
            if path.name != index:
                path.unlink()
        remove_unfinished(folder / name)
    remove_unfinished(folder)


def _there(folder: Path) -> dict[str, Any]:
    """The manifest that is in the folder; nothing when there is none, or a damaged one, which need not stay."""
    try:
        return read_manifest(folder)
    except LongTailError:
        return {}


# -- reading -----------------------------------------------------------------------------------------


def open_memory(folder: Path, *, mmap: bool, verify: bool | None, like: VectorIndex | None) -> Opened:
    """Everything of a memory, which fits together.

    Args:
        folder: of the memory.
        mmap: read files as they are needed.
        verify: compare all files with their checksums; by default indexes of up to 2 GB.
        like: an index with the settings of the memory's, for a class that is not of this library.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            found = _open(folder, manifest, mmap=mmap, verify=verify, like=like)
        except (LongTailError, *DAMAGED) as error:
            if read_manifest(folder) == manifest:
                if isinstance(error, LongTailError):
                    raise
                raise DamagedMemoryError.of(folder, error) from error
        else:
            if read_manifest(folder) == manifest:
                return found
        # Another process has saved meanwhile: files of both would not fit each other.


def _open(folder: Path, manifest: Mapping[str, Any], *, mmap: bool, verify: bool | None, like: Any) -> Opened:
    if verify and (wrong := verify_memory(folder)):
        raise DamagedMemoryError.of(folder, ", ".join(f"{name} {what}" for name, what in wrong.items()))
    _require_sizes(folder, manifest)
    like = _index_like(folder, manifest["index"], like)
    if verify is None and sum(told["index"]["bytes"] for told in manifest["sources"]) <= _CHECKED:
        for told in manifest["sources"]:
            path = folder / told["folder"] / told["index"]["name"]
            if size_and_checksum(path)["sha256"] != told["index"]["sha256"]:
                raise DamagedMemoryError.of(folder, f"{told['folder']}/{path.name} is not what was written")
    edits = folder / manifest["edits"]
    texts = column_of_arrays({key: read_array(edits / f"{key}.npy", mmap=mmap) for key in _text_arrays()}, "texts")
    assert isinstance(texts, Column)
    sources = {}
    for number, told in enumerate(manifest["sources"]):
        bank = FeatureBank.load(folder / told["folder"] / "bank", mmap=mmap)
        alive, numbers = (read_array(edits / f"{number}.{key}.npy", mmap=mmap) for key in ("alive", "text_numbers"))
        if not len(bank) == told["rows"] == len(alive) == len(numbers) or alive.dtype != bool:
            raise ValueError(f"the parts of source {told['name']!r} do not fit each other")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(texts):
            raise ValueError(f"source {told['name']!r} names texts that are not there")
        index = like.new().load(folder / told["folder"] / told["index"]["name"], mmap=mmap)
        there = index.ids()
        if len(there) and int(there.max()) >= len(alive):
            raise ValueError(f"the index of source {told['name']!r} is another one's")
        if len(gone := there[~alive[there]]):
            index.remove(gone)
        if len(index) != int(alive.sum()):
            raise ValueError(f"the index of source {told['name']!r} lacks items")
        sources[told["name"]] = Source(
            told["name"], bank, index, np.asarray(alive), np.asarray(numbers), told["folder"], told["index"]
        )
    return Opened(like, sources, texts, manifest["fingerprint"], manifest["edits"])


def _text_arrays() -> tuple[str, ...]:
    return tuple(Strings.of([]).arrays("texts"))


def _index_like(folder: Path, told: Mapping[str, Any], like: VectorIndex | None) -> VectorIndex:
    name = told.get("class")
    if like is not None:
        if type(like).__name__ != name:
            raise LongTailError(f"The memory {folder} has a {name}, index= is a {type(like).__name__}.")
        return like
    if name not in _INDEXES:
        raise LongTailError(
            f"The memory {folder} has a {name}, which is not of this library: load(path, index={name}())."
        )
    return _INDEXES[name](**told["settings"])


def _require_sizes(folder: Path, manifest: Mapping[str, Any]) -> None:
    for name, file in all_files(manifest).items():
        path = folder / name
        if not path.is_file():
            raise DamagedMemoryError.of(folder, f"{name} is missing")
        if path.stat().st_size != file["bytes"]:
            raise DamagedMemoryError.of(folder, f"{name} has {path.stat().st_size} bytes instead of {file['bytes']}")
