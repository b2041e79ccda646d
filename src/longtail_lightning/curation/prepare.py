"""Write a data set as a few large files."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import locked, remove_abandoned_lock, remove_unfinished, writable, write_json
from longtail_lightning.curation._checked_splits import SPLITS
from longtail_lightning.curation._unfinished import NOTE, Unfinished
from longtail_lightning.curation.write_shards import Contents, counted_from, write_split
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.datasets.image_shards import import_arrow
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.datasets.nested import encoded_image, item_name
from longtail_lightning.datasets.shard_manifest import MANIFEST, VERSION, files_of, manifest_checksum, read_manifest


def prepare_shards(
    data: LongTailDataModule,
    out: str | Path,
    *,
    shard_size: int = 500,
    resize: int | None = None,
    quality: int = 95,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Copy the images of a data module into Arrow files that `ShardsLT` trains from.

    Files are copied byte by byte, in their order, so results do not change; with `resize`, larger images
    are made smaller once instead of in every epoch. A half-written file is never read, and the
    same call continues after an interruption. Training and test sets are those of the files: held-out
    images and long-tailed subsets are chosen when training starts, as ever.

    Args:
        data: the data module, or anything with `build` and `class_names`.
        out: a folder, which must be empty or new.
        shard_size: megabytes per file.
        resize: length of the shorter side; larger images become JPEGs of this size, smaller ones stay.
        quality: of those JPEGs.
        num_workers: processes that read.
        progress: called with the images written so far and all of them.

    Returns:
        Images per split.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from longtail_lightning import ShardsLT, SyntheticLongTail
        >>> dm = SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2)
        >>> with TemporaryDirectory() as folder:
        ...     written = prepare_shards(dm, folder)
        ...     written["train"], ShardsLT(folder).class_counts
        (8, ClassCounts([4, 2, 2]))
    """
    import_arrow()
    datasets = {split: dataset for split in SPLITS if (dataset := data.build(split)) is not None}
    folder = Path(out).expanduser()
    plan = {"source": _fingerprint(datasets), **_settings(shard_size, resize, quality)}
    total = sum(_length(dataset) for dataset in datasets.values())
    tell = _teller(progress, total)
    sizes: dict[str, int] = {split: _length(dataset) for split, dataset in datasets.items()}
    if not _is_finished(folder, plan) or (folder / NOTE).exists():
        with locked(folder):
            if not _is_finished(folder, plan):  # meanwhile, by another process
                written = _write(folder, datasets, plan, num_workers, tell)
                about = {"version": VERSION, "format": "Arrow IPC", "class_names": data.class_names}
                manifest = {**about, **plan, **written}
                write_json(folder / MANIFEST, {**manifest, "sha256": manifest_checksum(manifest)})
            (folder / NOTE).unlink(missing_ok=True)
            remove_unfinished(folder)
    remove_abandoned_lock(folder)
    tell(total)
    return sizes


def _write(
    folder: Path,
    datasets: Mapping[Split, Dataset[Any]],
    plan: Mapping[str, Any],
    num_workers: int,
    tell: Callable[[int], None],
) -> dict[str, Any]:
    """The shards that are not there yet; what the manifest says of them."""
    with writable(folder):
        unfinished = Unfinished(folder, plan)
    if plan["resize"] is None:
        _require_space(folder, datasets)
    done = 0
    splits: dict[str, Any] = {}
    for split, dataset in datasets.items():
        contents, told = Contents(dataset, plan["resize"], plan["quality"]), counted_from(done, tell)
        splits[split] = write_split(split, contents, plan["shard_size"] << 20, num_workers, told, unfinished)
        done += _length(dataset)
    return {"splits": splits, "files": unfinished.seal(files_of({"splits": splits}))}


def _teller(progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None]:
    return lambda images: None if progress is None else progress(images, total)


def _settings(shard_size: int, resize: int | None, quality: int) -> dict[str, int | None]:
    if shard_size < 1 or (resize is not None and resize < 1) or not 1 <= quality <= 100:
        raise LongTailError(
            f"shard_size={shard_size}, resize={resize}, quality={quality}: megabytes and pixels are at least 1, "
            "the quality lies between 1 and 100."
        )
    return {"shard_size": shard_size, "resize": resize, "quality": quality if resize else None}


def _length(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]


def _fingerprint(datasets: Mapping[Split, Dataset[Any]]) -> str:
    """A checksum that identifies the images and labels by their files."""
    digest = hashlib.sha256()
    for split, dataset in datasets.items():
        digest.update(f"{split} {_length(dataset)}\n".encode())
        digest.update(labels_of(dataset).numpy().tobytes())
        for index in range(_length(dataset)):
            digest.update(item_name(dataset, index).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:16]


def _is_finished(folder: Path, plan: Mapping[str, Any]) -> bool:
    """Whether the wanted shards are there; others are refused."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_manifest(folder)
    if any(manifest.get(key) != value for key, value in plan.items()):
        raise LongTailError(f"{folder} holds shards of other images or settings: give another folder.")
    return True


def _require_space(folder: Path, datasets: Mapping[Split, Dataset[Any]]) -> None:
    """Refuse a disk that is too small before hours of copying; the sizes of some files give an estimate."""
    needed = sum(_estimated_bytes(dataset) for dataset in datasets.values())
    there = sum(file.stat().st_size for file in folder.glob("*.arrow"))
    free = shutil.disk_usage(folder).free
    if needed - there > free:
        raise LongTailError(
            f"The images take about {needed / 1e9:.1f} GB, {folder} has {(free + there) / 1e9:.1f} GB left: "
            "give a folder on another disk, or make images smaller with --resize 256."
        )


def _estimated_bytes(dataset: Dataset[Any]) -> int:
    size = _length(dataset)
    sizes = []
    for index in range(0, size, max(1, size // 500)):
        source = encoded_image(dataset, index)
        if isinstance(source, bytes):
            sizes.append(len(source))
        elif source is not None and os.path.exists(source):
            sizes.append(os.path.getsize(source))
    return size * sum(sizes) // len(sizes) if sizes else 0
