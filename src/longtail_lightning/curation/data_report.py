"""What a check of a data set found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from longtail_lightning._files import write_json
from longtail_lightning._open_file import not_a_file
from longtail_lightning.counts import ClassCounts
from longtail_lightning.curation._probe import ELONGATED, TINY


class Kind(NamedTuple):
    """A kind of fault: what it is called, and what to do about it."""

    title: str
    advice: str


FAULTS: dict[str, Kind] = {
    "missing": Kind("missing file", "correct the path or the root, or leave it out"),
    "empty": Kind("empty file (0 bytes)", "copy or download it again"),
    "truncated": Kind("truncated or damaged image", "copy or download it again"),
    "unreadable": Kind("not an image", "find out what it is; leave it out"),
    "huge": Kind("more pixels than are decoded", "make it smaller, or raise max_pixels"),
    "stray": Kind("file that belongs to no class", "move it into a class folder, or away"),
    "gap": Kind("class without images", "add images, or number the classes without gaps"),
    "start": Kind("labels do not start at 0", "number the classes from 0"),
    "unknown": Kind("class that training lacks", "add training images, or leave the class out"),
    "single": Kind("class with one training image", "add images; it cannot be held out for validation"),
    "duplicate": Kind("same image twice in a class", "keep one"),
    "contradiction": Kind("same image, different labels", "find the right label, leave the others out"),
    "leak": Kind("image in training and evaluation", "leave it out of training: the score would be too good"),
}
NOTES: dict[str, Kind] = {
    "tiny": Kind(f"under {TINY} pixels wide or high", "enlarged; is it a thumbnail?"),
    "elongated": Kind(f"over {ELONGATED} times as long as wide", "crops show little of it"),
    "cmyk": Kind("CMYK colors", "converted to RGB"),
    "deep": Kind("more than 8 bits", "converted to 8 bits"),
    "animated": Kind("animation", "the first frame is taken"),
    "rotated": Kind("turned by EXIF", "turned when it is read"),
}


@dataclass(frozen=True)
class Fault:
    """One thing that was found: which kind, in which file or class, and more about it."""

    kind: str
    where: str
    split: str = ""
    detail: str = ""


@dataclass
class DataReport:
    """What `check_images` found.

    Args:
        images: images of each split.
        faults: what is wrong, in the order of `FAULTS`.
        notes: what is odd but no fault.
        class_counts: training images of each class.
        class_names: one name per class.
        seconds: how long it took.
        read: images that were read.
        stopped: why not all of them were, empty when all were.

    Examples:
        >>> report = DataReport({"train": 3}, [Fault("empty", "cat/1.jpg", "train")])
        >>> report.clean, report.count("empty")
        (False, 1)
    """

    images: dict[str, int]
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    class_counts: list[int] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    seconds: float = 0.0
    read: int = 0
    stopped: str = ""

    @property
    def clean(self) -> bool:
        """Whether everything was read and nothing is wrong."""
        return not self.faults and not self.stopped

    def count(self, kind: str) -> int:
        """How many faults of a kind there are."""
        return sum(fault.kind == kind for fault in self.faults)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        counts = ClassCounts(self.class_counts) if self.class_counts else None

        def told(kinds: Mapping[str, Kind], found: Sequence[Fault]) -> dict[str, Any]:
            groups = {kind: [fault for fault in found if fault.kind == kind] for kind in kinds}
            return {
                kind: {"what": kinds[kind].title, "count": len(group), "found": [_plain(fault) for fault in group]}
                for kind, group in groups.items()
                if group
            }

        return {
            "tool": _TOOL,
            "complete": not self.stopped,
            "stopped": self.stopped or None,
            "clean": self.clean,
            "images": self.images,
            "read": self.read,
            "seconds": round(self.seconds, 1),
            "faults": told(FAULTS, self.faults),
            "notes": told(NOTES, self.notes),
            "imbalance_factor": counts.imbalance_factor if counts is not None else None,
            "class_counts": self.class_counts,
            "class_names": self.class_names,
        }

    def save(self, path: str | Path) -> Path:
        """Write JSON, all of it or nothing.

        Args:
            path: the file.
        """
        return write_json(path, self.as_dict())


def _plain(fault: Fault) -> dict[str, str]:
    return {key: value for key, value in asdict(fault).items() if value and key != "kind"}


_TOOL = "ltl data check"


def is_report(path: Path) -> bool:
    """Whether a file was written by `DataReport.save`."""
    if not_a_file(path) is not None:
        return False
    with open(path, "rb") as file:
        return f'"tool": "{_TOOL}"'.encode() in file.read(200)
