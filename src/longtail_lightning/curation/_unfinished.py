"""What a call of `prepare_shards` that was killed has left in its folder, and what of it can be kept."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import LOCK, remove_unfinished, size_and_checksum, write_json
from longtail_lightning.datasets.read_text import first_few, parse_json, read_text
from longtail_lightning.datasets.verify_shards import damage_of

NOTE = "unfinished.json"
_FIRST_WRITE = re.compile(rf"\.{re.escape(NOTE)}\..+\.part")
_SHARD = re.compile(r"\w+-(\d+|index)\.arrow(\.part)?")


class Unfinished:
    """The beginning of some shards. A note in the folder says what they will be, and which of them are written.

    Args:
        folder: must be locked.
        plan: what the shards are made of.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder, self.plan = folder, dict(plan)
        self.written: dict[str, dict[str, Any]] = {}
        held = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)
        if NOTE in held:
            self.written = self._noted()
        elif others := [name for name in held if not _FIRST_WRITE.fullmatch(name)]:
            raise LongTailError(f"{folder} is not empty ({first_few(others)}): give a new folder.")
        self._remove_litter()
        self._save()

    def kept(self, name: str, first: int) -> int:
        """How many images a shard that begins with this one holds, if it is written and still whole; else 0."""
        told = self.written.get(name, {})
        if told.get("first") != first or damage_of(self.folder / name, told):
            return 0
        return int(told["images"])

    def add(self, name: str, first: int, images: int) -> None:
        """Note that a shard is written."""
        self.written[name] = {"first": first, "images": images, **size_and_checksum(self.folder / name)}
        self._save()

    def seal(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Size and checksum of each of these files; others that were written before are removed."""
        self.written = {name: self.written[name] for name in names}
        self._remove_litter()
        return {name: {key: told[key] for key in ("bytes", "sha256")} for name, told in self.written.items()}

    def _save(self) -> None:
        write_json(self.folder / NOTE, {**self.plan, "written": self.written})

    def _noted(self) -> dict[str, dict[str, Any]]:
        file = self.folder / NOTE
        note = parse_json(read_text(file), file)
        if not isinstance(note, dict) or any(note.get(key) != value for key, value in self.plan.items()):
            raise LongTailError(
                f"{self.folder} holds the beginning of shards of other images or settings: "
                "give another folder, or remove this one."
            )
        written = note.get("written", {})  # earlier releases did not note it
        return {name: told for name, told in written.items() if isinstance(told, dict)}

    def _remove_litter(self) -> None:
        """Delete half-written files, and shards that nobody noted."""
        remove_unfinished(self.folder)
        for file in list(self.folder.iterdir()):
            if _SHARD.fullmatch(file.name) and file.name not in self.written:
                file.unlink(missing_ok=True)
