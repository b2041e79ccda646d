"""Find what is wrong with a data set before a training run does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.curation._checked_splits import CheckedSplit, CheckedSplits, checked_splits_of
from longtail_lightning.curation._probe import ODD, Probe, Seen
from longtail_lightning.curation.data_report import FAULTS, DataReport, Fault
from longtail_lightning.data.datamodule import LongTailDataModule
from longtail_lightning.datasets.loader import ResumableLoader, WorkerDiedError
from longtail_lightning.datasets.loading_process import one_thread

_BATCH = 16


def check_images(
    data: LongTailDataModule | Mapping[str, Dataset[Any]],
    *,
    class_names: Sequence[str] | None = None,
    num_workers: int = 0,
    pixels: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Read and decode every image once, and compare what is in them.

    Finds files that cannot be decoded, gaps in the labels, and images that occur more than once: in a
    class, under two labels, or in training and evaluation. Changes nothing. When it is interrupted, or
    a loading process dies, it reports what it has found so far and `stopped` says why.

    Args:
        data: a data module, or data sets by split: `"train"`, `"val"`, `"test"`.
        class_names: one name per class; those of the data module by default.
        num_workers: processes that read.
        pixels: compare decoded pixels instead of files: finds copies that were saved again without
            loss, and takes a third longer.
        progress: called with the images read so far and all of them.

    Examples:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> images = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 16, 16).to(torch.uint8)
        >>> train = TensorDataset(images[[0, 1, 1, 2]], torch.tensor([0, 0, 0, 1]))
        >>> [(fault.kind, fault.where) for fault in check_images({"train": train}).faults]
        [('single', 'class 1'), ('duplicate', 'train[2]')]
    """
    found = checked_splits_of(data)
    if class_names is not None:
        found.class_names = list(class_names)
    return check_splits(found, num_workers=num_workers, pixels=pixels, progress=progress)


def check_splits(
    found: CheckedSplits,
    *,
    num_workers: int = 0,
    pixels: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """`check_images` for labels as the files give them: they may start at any number.

    Args:
        found: the splits; `keep` tells afterwards which images are good.
        num_workers: processes that read.
        pixels: compare decoded pixels.
        progress: called with the images read so far and all of them.
    """
    start = time.perf_counter()
    parts = found.parts
    report = DataReport({part.split: len(part.labels) for part in parts})
    faults = [Fault(kind, file, detail=why) for kind, file, why in found.strays]
    faults += _label_faults(parts, report, found.class_names)
    ends = np.cumsum([len(part.labels) for part in parts])
    digests = np.zeros((int(ends[-1]), 2), dtype="<u8")
    readable = np.zeros(len(digests), dtype=bool)

    def place(position: int) -> tuple[CheckedSplit, int]:
        part = int(np.searchsorted(ends, position, side="right"))
        return parts[part], int(position - (ends[part - 1] if part else 0))

    try:
        for batch in _looks(Probe([part.dataset for part in parts], pixels=pixels), num_workers):
            for seen in batch:
                part, index = place(report.read)
                if seen.broken is not None:
                    part.keep[index] = False
                    faults.append(Fault(seen.broken, part.name(index), part.split, seen.detail))
                else:
                    digests[report.read] = np.frombuffer(seen.digest[:16], dtype="<u8")
                    readable[report.read] = True
                    report.notes.extend(Fault(odd, part.name(index), part.split) for odd in seen.odd)
                report.read += 1
            if progress is not None:
                progress(report.read, len(digests))
    except KeyboardInterrupt:
        report.stopped = "interrupted"
    except WorkerDiedError as error:
        report.stopped = str(error)
    for group in _groups(digests, readable):
        faults += _same_image([place(position) for position in group])
    order = list(FAULTS)
    report.faults = sorted(faults, key=lambda fault: order.index(fault.kind))
    report.notes.sort(key=lambda note: ODD.index(note.kind))
    report.seconds = time.perf_counter() - start
    return report


def _looks(probe: Probe, num_workers: int) -> Iterator[list[Seen]]:
    yield from ResumableLoader(
        probe,
        batch_size=_BATCH,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=one_thread,
        prefetch_factor=4 if num_workers else None,
    )


def _label_faults(parts: Sequence[CheckedSplit], report: DataReport, class_names: Sequence[str] | None) -> list[Fault]:
    """The faults that the labels alone show; also puts counts and names of the classes into the report."""
    train, *others = parts
    everything = np.concatenate([part.labels for part in parts])
    first = first_label(parts, class_names)
    last = max(int(everything.max()), len(class_names or ()) - 1)
    if last - first >= _MANY_CLASSES:
        raise LongTailError(f"The labels run from {first} to {last}: class numbers are expected.")
    counts = np.bincount(train.labels - first, minlength=last - first + 1)
    numbers = [str(label) for label in range(first, last + 1)]
    report.class_counts = counts.tolist()
    report.class_names = [*(class_names or ()), *numbers[len(class_names or ()) :]]
    shown = [
        f"class {number}" if number == name else f"class {number} ({name})"
        for number, name in zip(numbers, report.class_names)
    ]
    found = [Fault("start", f"labels from {first} to {last}")] if first != 0 else []
    for label in np.flatnonzero(counts == 0):
        lacking = [(part.split, int((part.labels == label + first).sum())) for part in others]
        lacking = [(split, number) for split, number in lacking if number]
        detail = ", ".join(f"{number} in {split}" for split, number in lacking)
        found.append(Fault("unknown" if lacking else "gap", shown[label], detail=detail))
    found += [Fault("single", shown[label], train.split) for label in np.flatnonzero(counts == 1)]
    return found


def first_label(parts: Sequence[CheckedSplit], class_names: Sequence[str] | None) -> int:
    """The label of the first class: 0, unless plain numbers start elsewhere."""
    return 0 if class_names is not None else min(int(part.labels.min()) for part in parts)


_MANY_CLASSES = 10_000_000


def _groups(digests: np.ndarray, readable: np.ndarray) -> Iterator[list[int]]:
    """Places of images that are the same, two or more at a time."""
    places = np.flatnonzero(readable)
    order = places[np.lexsort((places, digests[places, 1], digests[places, 0]))]
    same = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
    for is_same, neighbors in groupby(range(len(same)), key=same.__getitem__):
        if is_same:
            run = list(neighbors)
            yield order[run[0] : run[-1] + 2].tolist()


def _same_image(places: list[tuple[CheckedSplit, int]]) -> Iterator[Fault]:
    """The faults of one image that occurs several times; sets `keep` to False where it should be left out."""
    labels = [int(part.labels[index]) for part, index in places]
    names = [part.name(index) for part, index in places]
    other = next((i for i, label in enumerate(labels) if label != labels[0]), None)
    last = places[-1][0]
    in_last = next(name for (part, _), name in zip(places, names) if part is last)
    seen: dict[tuple[str, int], str] = {}
    for (part, index), label, name in zip(places, labels, names):
        twin = seen.setdefault((part.split, label), name)
        if other is not None:
            against = other if label == labels[0] else 0
            yield Fault("contradiction", name, part.split, f"label {label}, but {labels[against]} as {names[against]}")
            part.keep[index] &= part.split == "test"  # a test set stays as it is: scores are compared on it
        if part is not last:
            yield Fault("leak", name, part.split, f"also in {last.split}: {in_last}")
            part.keep[index] = False
        if part.split == "train" and (twin is not name):
            yield Fault("duplicate", name, part.split, "listed twice" if twin == name else f"same as {twin}")
            part.keep[index] = False
