"""Does it pay to put image files into shards, and which format reads single images fastest?

    python benchmarks/shards.py

The same photo-like JPEGs as a folder, as Arrow files (`ltl data prepare`), as Parquet, and as a tar with the
offsets of its members. Measured in turns: random reads through the sampler on two loading processes, with
files in memory and after they were dropped from the page cache; the time to open the data set and know its
labels; and training batches, where decoding comes on top, also from images that were made smaller.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import torch
from _photos import HEIGHT, WIDTH, photo_tree
from _record import record
from torch.utils.data import DataLoader, Dataset

from longtail_lightning import ImageFolderLT, ImageShards, LongTailDataModule, ShardsLT, labels_of, prepare_shards
from longtail_lightning.samplers import InstanceBalancedSampler

IMAGES, BATCH, WORKERS, ROUNDS, SEED = 2000, 64, 2, 5, 0
GROUP = 64  # rows per row group of the Parquet file


class Files:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.dataset: Any = ImageFolderLT(root / "folder", val_split=0, test_split=0).dataset("train")
        self.labels = self.dataset.labels

    def source(self, index: int) -> bytes:
        with open(self.dataset.path(index), "rb") as file:
            return file.read()


class Arrow(ImageShards):
    """Shards of the library."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "arrow")


class Parquet:
    """One Parquet file, mapped; the smallest piece that can be read is a row group."""

    def __init__(self, root: Path) -> None:
        self.path = root / "images.parquet"
        self.labels = torch.tensor(parquet.read_table(self.path, columns=["label"])["label"].to_numpy())
        self.file: Any = None

    def source(self, index: int) -> bytes:
        if self.file is None:  # not shared between processes
            self.file = parquet.ParquetFile(self.path, memory_map=True)
        group, row = divmod(index, GROUP)
        data: bytes = self.file.read_row_group(group, columns=["image"])["image"][row].as_py()
        return data


class Tar:
    """A tar as WebDataset has them, with an index of our own: name, label, offset and size of each member."""

    def __init__(self, root: Path) -> None:
        self.path = root / "images.tar"
        index = np.load(root / "images.index.npy")
        self.labels = torch.from_numpy(index[:, 0].copy())
        self.places = index[:, 1:]
        self.file = -1

    def source(self, index: int) -> bytes:
        if self.file < 0:
            self.file = os.open(self.path, os.O_RDONLY)
        offset, size = self.places[index].tolist()
        return os.pread(self.file, size, offset)


FORMATS: dict[str, Callable[[Path], Any]] = {"folder": Files, "arrow": Arrow, "parquet": Parquet, "tar": Tar}


def main() -> None:
    """Write all formats, measure in turns, medians."""
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        size = photo_tree(root / "folder", IMAGES)
        seconds = write(root)
        measured: dict[str, dict[str, list[float]]] = {
            form: {"open_ms": [], "warm": [], "cold": []} for form in FORMATS
        }
        batches: dict[str, list[float]] = {"folder": [], "arrow": [], "arrow_resized_256": []}
        modules = {
            "folder": ImageFolderLT(root / "folder", val_split=0, test_split=0, **OPTIONS),
            "arrow": ShardsLT(root / "arrow", **OPTIONS),
            "arrow_resized_256": ShardsLT(root / "arrow256", **OPTIONS),
        }
        loaders = {form: data.train_dataloader() for form, data in modules.items()}
        for epoch in range(ROUNDS + 1):
            for form, make in FORMATS.items():
                start = time.perf_counter()
                dataset = make(root)
                measured[form]["open_ms"].append(1000 * (time.perf_counter() - start))
                drop_from_cache(files_of(root, form))
                measured[form]["cold"].append(read(dataset, epoch))
                measured[form]["warm"].append(read(dataset, epoch + 1000))
            for form, loader in loaders.items():
                batches[form].append(train(loader, modules[form], epoch))
            print(epoch, {form: round(values["warm"][-1]) for form, values in measured.items()}, flush=True)
        results: dict[str, Any] = {
            form: {
                "files": len(files_of(root, form)),
                "megabytes": round(sum(file.stat().st_size for file in files_of(root, form)) / 1e6, 1),
                "open_ms": round(median(values["open_ms"][1:]), 2),
                "reads_per_s_warm": round(median(values["warm"][1:])),
                "reads_per_s_cold": round(median(values["cold"][1:])),
            }
            for form, values in measured.items()
        }
        ratio = [median(a / b for a, b in zip(batches[form][1:], batches["folder"][1:])) for form in batches]
        results["training_batches"] = {
            form: {"images_per_s": round(median(values[1:]), 1), "of_folder": round(of_folder, 3)}
            for (form, values), of_folder in zip(batches.items(), ratio)
        }
        results["prepare"] = {form: round(IMAGES / value, 1) for form, value in seconds.items()}
    record(
        "shards_cpu",
        {
            "what": f"{IMAGES} JPEGs of {WIDTH}x{HEIGHT}, {size // IMAGES} bytes each; batch {BATCH}, {WORKERS} "
            "workers; cold: dropped from the page cache by posix_fadvise; prepare: images per second",
            **results,
            "rounds": ROUNDS,
            "cores": os.cpu_count(),
            "load_before": round(load, 1),
        },
        seed=SEED,
    )


OPTIONS: dict[str, Any] = {"batch_size": BATCH, "num_workers": WORKERS, "transforms": "inaturalist"}


def write(root: Path) -> dict[str, float]:
    """All formats from the folder; seconds that `prepare_shards` took."""
    source = ImageFolderLT(root / "folder", val_split=0, test_split=0)
    seconds = {}
    for name, resize in (("arrow", None), ("arrow256", 256)):
        start = time.perf_counter()
        prepare_shards(source, root / name, resize=resize, num_workers=WORKERS)
        seconds[name] = time.perf_counter() - start
    import pyarrow.feather as feather

    shards = sorted((root / "arrow").glob("train-0*.arrow"))
    writer = None
    for shard in shards:
        table = feather.read_table(shard)
        writer = writer or parquet.ParquetWriter(root / "images.parquet", table.schema, compression="none")
        writer.write_table(table, row_group_size=GROUP)
    assert writer is not None
    writer.close()
    dataset: Any = source.dataset("train")
    with tarfile.open(root / "images.tar", "w") as tar:
        for index in range(len(dataset)):
            tar.add(dataset.path(index), dataset.file(index))
    with tarfile.open(root / "images.tar") as tar:
        places = [(member.offset_data, member.size) for member in tar]
    labels = labels_of(dataset).numpy()
    np.save(root / "images.index.npy", np.column_stack([labels, np.array(places)]))
    return seconds


def files_of(root: Path, form: str) -> list[Path]:
    """The files of a format."""
    patterns = {"folder": "folder/*/*.jpg", "arrow": "arrow/*", "parquet": "images.parquet", "tar": "images.*"}
    files = [file for file in root.glob(patterns[form]) if file.suffix != ".parquet" or form == "parquet"]
    return sorted(files)


def drop_from_cache(files: list[Path]) -> None:
    """Ask the system to forget the contents; the disk's own memory and the folder entries stay warm."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


class Lengths(Dataset[int]):
    """Reads each item and gives its size."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset.labels)

    def __getitem__(self, index: int) -> int:
        return len(self.dataset.source(index))


def read(dataset: Any, epoch: int) -> float:
    """Images per second of one epoch of random reads; the start of the processes is not counted."""
    sampler = InstanceBalancedSampler(dataset.labels, seed=SEED)
    sampler.set_epoch(epoch)
    loader = DataLoader(Lengths(dataset), BATCH, sampler=sampler, num_workers=WORKERS)
    batches = iter(loader)
    seen = len(next(batches))
    start = time.perf_counter()
    prefetched = BATCH * WORKERS * 2  # on their way before the clock starts
    for batch in batches:
        seen += len(batch)
    return (seen - BATCH - prefetched) / (time.perf_counter() - start)


def train(loader: DataLoader[Any], data: LongTailDataModule, epoch: int) -> float:
    """Images per second of one epoch of decoded, cropped and normalized batches."""
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    start, seen = time.perf_counter(), 0
    for batch in loader:
        seen += len(data.on_after_batch_transfer(batch, 0)[0])
    return seen / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
