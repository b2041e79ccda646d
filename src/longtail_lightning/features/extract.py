"""One pass of an encoder over a split: exact on any number of processes, and after a kill."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longtail_lightning._distributed import on_rank_zero, raise_on_all_ranks, rank_and_world_size
from longtail_lightning._errors import LongTailError
from longtail_lightning._random import isolated_rng
from longtail_lightning.features import _storage as files
from longtail_lightning.features._encoding import Encoding, choose_device
from longtail_lightning.features._fingerprint import encoder_fingerprint, require_equal, unwrapped
from longtail_lightning.features._shards import DiskStore, MemoryStore, Shards, Store, remove
from longtail_lightning.features._source import Source, labels_of_batch, source_of
from longtail_lightning.features.bank import FeatureBank, not_finite, write_items

_DTYPES = (torch.float16, torch.float32, torch.float64)


def extract_features(
    encoder: nn.Module,
    source: Any,
    path: str | Path | None = None,
    *,
    split: str | None = None,
    num_classes: int | None = None,
    views: int = 1,
    augment: bool | None = None,
    dtype: torch.dtype = torch.float16,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: torch.device | str = "auto",
    precision: str | None = None,
    shard_size: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> FeatureBank:
    r"""Run a frozen encoder over a split once and keep the features of every image.

    **Exact.** Images are taken in the order of the data, each once. The split is cut into shards of
    whole batches; of R processes, the r-th takes shards r, r + R, ... So every batch holds the same
    images on any number of processes, and the features are the same bit for bit.

    **Resumable.** With `path`, finished shards stay when the run is killed, and the same call goes on
    with the first one that is missing; the bank is the one of an uninterrupted run, bit for bit. It
    refuses to go on with another encoder, other data or another batch size. A finished bank that
    fits is opened, not made again.

    **Evaluation mode.** The encoder runs in evaluation mode without gradients, and is put back where and
    as it was. Images that come as several crops, `(batch, crops, channels, height, width)`, give the
    mean of their crops' features.

    **Several views.** With `views` above 1 every image is seen so many times as in training, augmented
    differently each time; augmentations are a function of (seed of the data, view, batch).

    Args:
        encoder: any module from images to `(batch, features)`, such as `model.backbone`.
        source: a data module of this library, or a `DataLoader`, of which the data set, the way of
            collating and the sizes are used; its images must be as the encoder takes them.
        path: folder of the bank; in memory by default.
        split: `"train"` (default), `"val"` or `"test"` of a data module. A loader does not say which split it is:
            name it, or a bank of test images is not known for one.
        num_classes: how many classes there are, when a loader's last ones have no image; by default as its data set
            says, or the largest label + 1.
        views: how often to see each image.
        augment: whether to transform images as in training; by default with several views only.
        dtype: type of the features that are kept: `float16` (values up to 65504), `float32` or `float64`.
        batch_size: images at a time; by default that of the source.
        num_workers: processes that load images; by default that of the source.
        device: where to run the encoder; by default where it is, or else a GPU.
        precision: `"bf16"` or `"16"` for autocast; full precision by default.
        shard_size: images per shard, rounded up to whole batches; by default a 64th of the split, and
            8192 at most.
        overwrite: delete a bank or a part of one that is at `path`.
        progress: show a progress bar, on the first process alone.

    Examples:
        >>> from longtail_lightning import CIFARResNet, SyntheticLongTail
        >>> data = SyntheticLongTail(num_classes=3, max_count=6, imbalance_factor=2)
        >>> extract_features(CIFARResNet(8), data, split="val", progress=False)
        FeatureBank(60 x 64 float16, 3 classes)
    """
    return extract(
        encoder,
        source_of(source, split, num_classes),
        path,
        views=views,
        augment=views > 1 if augment is None else augment,
        dtype=dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        device=device,
        precision=precision,
        shard_size=shard_size,
        overwrite=overwrite,
        progress=progress,
        resume=f"the same extract_features call for {str(path)!r}",
        instead="give another path, or overwrite=True",
    )


def extract(
    encoder: nn.Module,
    source: Source,
    path: str | Path | None,
    *,
    views: int,
    augment: bool,
    dtype: torch.dtype,
    batch_size: int | None,
    num_workers: int | None,
    device: torch.device | str,
    precision: str | None,
    shard_size: int | None,
    overwrite: bool,
    progress: bool,
    resume: str,
    instead: str,
) -> FeatureBank:
    """`extract_features`, with the words that tell how to continue, and what to do where another bank is."""
    _check_arguments(views, augment, dtype, batch_size, shard_size)
    _refuse_whole_model(encoder)
    rank, world_size = rank_and_world_size()
    encoding = Encoding(encoder, choose_device(device, encoder), precision)
    batch_size = batch_size or source.batch_size
    num_workers = source.num_workers if num_workers is None else num_workers
    shards = Shards.of(source.number, views, batch_size, shard_size)
    fingerprint = {
        "encoder": encoder_fingerprint(encoder),
        "data": source.fingerprint(),
        "extraction": {
            "views": views,
            "augment": augment,
            "augmentation": source.augmentation() if augment else None,
            "dtype": str(dtype).removeprefix("torch."),
            "precision": str(encoding.autocast or torch.float32).removeprefix("torch."),
        },
    }
    if world_size > 1:
        _require_alike(fingerprint)
    # Loaders draw seeds for their workers.
    with encoding, source.loading(batch_size, num_workers), isolated_rng(0):
        width = _width(encoding, source)
        if path is None:
            store: Store = MemoryStore(shards, width, dtype)
        else:
            folder = Path(path)
            state = {
                "shards": shards.total,
                "plan": {**shards.as_dict(), "num_features": width, "device": encoding.device.type},
                "fingerprint": fingerprint,
                "resume": resume,
            }
            prepare = _writable(folder)(lambda: _prepare(folder, shards, width, dtype, state, overwrite, instead))
            if on_rank_zero(prepare):
                return _with_classes(FeatureBank.load(folder), source.classes()[0], instead)
            store = raise_on_all_ranks(lambda: DiskStore(folder, shards))
        try:
            raise_on_all_ranks(lambda: _run(encoding, source, store, augment, dtype, rank, world_size, progress))
        except KeyboardInterrupt:
            told = (
                ""
                if path is None
                else f", {len(store.done())} of {shards.total} shards are kept: continue with {resume}"
            )
            raise KeyboardInterrupt(f"Extraction was interrupted{told}.") from None
        finally:
            if isinstance(store, DiskStore):
                store.close()
    if isinstance(store, DiskStore):
        on_rank_zero(lambda: _seal(folder, store, source))
        return FeatureBank.load(folder)
    assert isinstance(store, MemoryStore)
    if world_size > 1:
        store.gather()
    known, names = source.labels(), source.classes()
    return FeatureBank.from_arrays(
        store.features,
        store.labels if known is None else known,
        source.ids(),
        source.texts(),
        num_classes=names[0],
        class_names=names[1],
        fingerprint=fingerprint,
    )


def _check_arguments(
    views: int, augment: bool, dtype: torch.dtype, batch_size: int | None, shard_size: int | None
) -> None:
    if views > 1 and not augment:
        raise LongTailError(f"views={views} without augmentation are all the same: leave out augment=False, or views.")
    if dtype not in _DTYPES:
        raise LongTailError(
            f"Features are kept as float16, float32 or float64, not as {dtype}: npy files know no other, and "
            "precision='bf16' runs the encoder in bfloat16."
        )
    for name, value in (("views", views), ("batch_size", batch_size), ("shard_size", shard_size)):
        if value is not None and value < 1:
            raise LongTailError(f"{name}={value} must be at least 1.")


def _refuse_whole_model(encoder: nn.Module) -> None:
    inner = unwrapped(encoder)
    if all(isinstance(getattr(inner, part, None), nn.Module) for part in ("backbone", "head")):
        raise LongTailError(
            f"The encoder is a whole {type(inner).__name__}, head included, which gives logits: pass model.backbone."
        )


def _with_classes(bank: FeatureBank, num_classes: int | None, instead: str) -> FeatureBank:
    if num_classes not in (None, bank.num_classes):
        raise LongTailError(f"The bank {bank.path} is of {bank.num_classes} classes, not of {num_classes}: {instead}.")
    return bank


def _width(encoding: Encoding, source: Source) -> int:
    """Number of features, from the first image."""
    with source.loading(1, 0), isolated_rng(0):
        batch = next(iter(source.loader([0], augment=False, view=0)))
        return encoding(source.prepare(batch, encoding.device, augment=False)).shape[1]


def _run(
    encoding: Encoding,
    source: Source,
    store: Store,
    augment: bool,
    dtype: torch.dtype,
    rank: int,
    world_size: int,
    progress: bool,
) -> None:
    """Extract this process's share of what is missing."""
    shards, num_classes = store.shards, source.classes()[0]
    share = shards.share(rank, world_size, store.done())
    number = sum(len(shards.images(shard)) for chosen in share.values() for shard in chosen)
    title = f"{source.split or ''} features".lstrip() + (f" (process 1 of {world_size})" if world_size > 1 else "")
    with _bar(title, number, progress and rank == 0) as advance:
        for view, chosen in share.items():
            indices = list(chain.from_iterable(shards.images(shard) for shard in chosen))
            loader = source.loader(indices, augment=augment, view=view)
            for batch, (shard, images, last) in zip(loader, shards.batches(chosen), strict=True):
                features = _features(encoding, source, batch, augment, (view, images.start)).to(dtype)
                if not bool(features.isfinite().all()):
                    raise _bad(features, images, source)
                if (labels := labels_of_batch(batch, num_classes)) is None:
                    raise LongTailError(f"{source.name} gives images alone, expected (images, labels): return both.")
                store.write(view, images, features.cpu(), labels)
                if last:
                    store.finish(view, shard)
                advance(len(images))


def _features(encoding: Encoding, source: Source, batch: Any, augment: bool, key: tuple[int, int]) -> Tensor:
    with isolated_rng(*key):
        return encoding(source.prepare(batch, encoding.device, augment=augment))


def _bad(features: Tensor, images: range, source: Source) -> LongTailError:
    wrong = (~features.isfinite().all(1)).nonzero().flatten().tolist()
    names = source.ids()
    names = range(source.number) if names is None else names
    first = [names[images[i]] for i in wrong[:3]]
    # Not worth another batch: how many they are in all, nobody has looked.
    return LongTailError(not_finite(len(wrong), source.number, first, features.dtype, at_least=True))


# -- the folder ----------------------------------------------------------------------------------


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LongTailError(
            f"The bank {folder} cannot be written ({error.strerror}): give the path of a folder that can."
        ) from error


def _prepare(
    folder: Path,
    shards: Shards,
    width: int,
    dtype: torch.dtype,
    state: dict[str, Any],
    overwrite: bool,
    instead: str,
) -> bool:
    """Make the folder ready; true when it holds the wanted bank already."""
    if folder.is_file():
        raise LongTailError(f"{folder} is a file, a bank is a folder: give another path.")
    if overwrite:
        remove(folder)
    finished = (folder / files.HEADER).is_file()
    if finished:
        found = files.read_json(folder / files.HEADER)["fingerprint"]
        require_equal(state["fingerprint"], found, f"The bank {folder}", instead)
    elif (folder / files.PROGRESS).is_file():
        before = files.read_json(folder / files.PROGRESS)
        named = f"The unfinished bank {folder}"
        require_equal(state["fingerprint"], before["fingerprint"], named, instead)
        require_equal({"extraction": state["plan"]}, {"extraction": before["plan"]}, named, instead)
    else:
        DiskStore.create(folder, shards, width, dtype, state)
        return False
    try:
        if finished:
            FeatureBank.load(folder)
        else:
            DiskStore(folder, shards).close()
    except (LongTailError, *files.DAMAGED) as error:
        warnings.warn(f"What is in {folder} is damaged and made again: {error}", stacklevel=2)
        DiskStore.create(folder, shards, width, dtype, state)
        return False
    return finished


def _seal(folder: Path, store: DiskStore, source: Source) -> None:
    """Turn the finished shards into a bank."""
    missing = store.shards.total - len(store.done())
    if missing:
        raise LongTailError(
            f"{missing} of {store.shards.total} shards are missing in {folder}: all processes must see the same "
            "folder; give a path on a shared disk, or repeat the call."
        )
    labels = source.labels()
    if labels is None:
        labels = files.as_tensor(files.read_array(folder / files.LABELS))
    num_classes, class_names = source.classes()
    ids, texts = source.ids(), source.texts()
    features = files.as_tensor(files.read_array(folder / files.FEATURES, mmap=True))
    num_classes = num_classes or (len(class_names) if class_names else int(labels.max()) + 1)
    # Who began may have named the split, who goes on need not.
    fingerprint = files.read_json(folder / files.PROGRESS)["fingerprint"]
    bank = FeatureBank(features, labels, ids, texts, num_classes, class_names, fingerprint)
    write_items(folder, labels, ids, texts)
    files.write_json(folder / files.HEADER, bank.header())
    (folder / files.PROGRESS).unlink()
    for marker in (folder / files.DONE).iterdir():
        marker.unlink()
    (folder / files.DONE).rmdir()


# -- several processes ---------------------------------------------------------------------------


def _require_alike(fingerprint: dict[str, Any]) -> None:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, fingerprint)
    for other, values in enumerate(found):
        if values != found[0]:
            part = next(key for key in values if values[key] != found[0][key])
            raise LongTailError(
                f"Process {other} has another {part} than process 0 ({values[part]} and {found[0][part]}): "
                "load the same checkpoint and data in all of them."
            )


@contextmanager
def _bar(title: str, number: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar with images per second."""
    if not shown:
        yield lambda images: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.0f} images/s" if speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(title, total=number)
        yield lambda images: bar.advance(task, images)
