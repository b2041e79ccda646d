"""One pass of an encoder over a split: exact on any number of processes, and after a kill."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longtail_lightning._distributed import on_rank_zero, raise_on_all_ranks, rank_and_world_size
from longtail_lightning._errors import LongTailError
from longtail_lightning._progress import progress_bar
from longtail_lightning._random import isolated_rng
from longtail_lightning.features._checks import NotFiniteError
from longtail_lightning.features._encoding import Encoding, choose_device
from longtail_lightning.features._fingerprint import encoder_fingerprint, unwrapped
from longtail_lightning.features._folder import Folder, bank_of_source
from longtail_lightning.features._shards import Shards
from longtail_lightning.features._source import Source, labels_of_batch, source_of
from longtail_lightning.features._writers import MemoryWriter, Writer
from longtail_lightning.features.bank import FeatureBank
from longtail_lightning.features.extraction import Extraction

_CLASSIFIERS = ("fc", "classifier", "head", "heads")
_IMAGENET = 1000


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
    """Run a frozen encoder over a split once and keep the features: exact on any number of processes, and resumable.

    With `path`, the same call goes on after a kill, and opens a finished bank. `Extraction` says more of the settings.

    Args:
        encoder: any module from inputs to `(batch, features)`, such as `model.backbone`; it runs in evaluation mode.
        source: a data module of this library, or a `DataLoader`, of which the data set, the way of
            collating and the sizes are used; its images must be as the encoder takes them.
        path: folder of the bank; in memory by default.
        split: `"train"` (default), `"val"` or `"test"` of a data module. A loader does not say which split it is:
            name it, or a bank of test images is not recognized as one.
        num_classes: how many classes there are, when the last ones of a loader have no input.
        views: how often to see each input, augmented differently each time.
        augment: whether to transform inputs as in training; by default with several views only.
        dtype: type of the features that are kept: `float16`, `float32` or `float64`.
        batch_size: inputs at a time; by default that of the source.
        num_workers: processes that load inputs; by default that of the source.
        device: where to run the encoder; by default where it is, or else a GPU.
        precision: `"bf16"` or `"16"` for autocast; full precision by default.
        shard_size: inputs per shard.
        overwrite: delete a bank or a part of one that is at `path`.
        progress: show a progress bar, on the first process alone.

    Examples:
        >>> from longtail_lightning import CIFARResNet, SyntheticLongTail
        >>> data = SyntheticLongTail(num_classes=3, max_count=6, imbalance_factor=2)
        >>> extract_features(CIFARResNet(8), data, split="val", progress=False)
        FeatureBank(60 x 64 float16, 3 classes)
    """
    settings = Extraction(
        views, augment, dtype, batch_size, num_workers, device, precision, shard_size, overwrite, progress
    )
    return extract(encoder, source_of(source, split, num_classes), path, settings)


def extract(
    encoder: nn.Module,
    source: Source,
    path: str | Path | None,
    settings: Extraction,
    *,
    resume: str = "",
    instead: str = "give another path, or overwrite=True",
) -> FeatureBank:
    """Run an encoder over a split.

    Inputs are taken in the order of the data, each once. The split is cut into shards of whole batches; of R
    processes, the r-th takes shards r, r + R, ... So every batch holds the same inputs on any number of processes,
    and the features are the same bit for bit. Finished shards stay when the run is killed.

    Args:
        encoder: from inputs to features.
        source: the inputs.
        path: folder of the bank; in memory without one.
        settings: how.
        resume: how to continue, in the words of the user.
        instead: what to do where another bank is, in the words of the user.
    """
    _refuse_whole_model(encoder)
    encoding = Encoding(encoder, choose_device(settings.device, encoder), settings.precision)
    batch_size = settings.batch_size or source.batch_size
    num_workers = source.num_workers if settings.num_workers is None else settings.num_workers
    shards = Shards.of(source.number, settings.views, batch_size, settings.shard_size)
    fingerprint = _fingerprint(encoding, source, settings)
    _require_alike(fingerprint)
    # Loaders draw seeds for their workers.
    with encoding, source.loading(batch_size, num_workers), isolated_rng(0):
        width, labeled = _first(encoding, source)
        _warn_of_logits(encoding.encoder, width, source.classes()[0])
        if path is None:
            writer = MemoryWriter(shards, width, settings.dtype, labeled)
            _fill(writer, encoding, source, settings)
            writer.gather()
            return bank_of_source(source, writer.features, writer.labels, fingerprint)
        resume = resume or f"the same extract_features call for {str(path)!r}"
        device = encoding.device.type
        folder = Folder(Path(path), shards, width, settings.dtype, labeled, device, fingerprint, resume, instead)
        return _extract_into(folder, encoding, source, settings)


def _extract_into(folder: Folder, encoding: Encoding, source: Source, settings: Extraction) -> FeatureBank:
    with ExitStack() as held:
        if on_rank_zero(lambda: folder.claim(settings.overwrite, held)):
            bank, num_classes = FeatureBank.load(folder.path), source.classes()[0]
            if num_classes not in (None, bank.num_classes):
                raise LongTailError(
                    f"The bank {bank.path} is of {bank.num_classes} classes, not of {num_classes}: {folder.instead}."
                )
            return bank
        with closing(raise_on_all_ranks(folder.writer)) as writer:
            _fill(writer, encoding, source, settings, folder.resume)
            on_rank_zero(lambda: folder.finalize(writer, source))
    return FeatureBank.load(folder.path)


def _refuse_whole_model(encoder: nn.Module) -> None:
    inner = unwrapped(encoder)
    if all(isinstance(getattr(inner, part, None), nn.Module) for part in ("backbone", "head")):
        raise LongTailError(
            f"The encoder is a whole {type(inner).__name__}, head included, which gives logits: pass model.backbone."
        )


def _warn_of_logits(encoder: nn.Module, width: int, num_classes: int | None) -> None:
    """Warn when an encoder still ends in its classifier, as networks of timm and torchvision do when they are made."""
    layers = [(name, layer) for name, layer in unwrapped(encoder).named_modules() if isinstance(layer, nn.Linear)]
    name, last = layers[-1] if layers else ("", None)
    if last is None or name.split(".")[0] not in _CLASSIFIERS or width != last.out_features:
        return
    if width in (_IMAGENET, num_classes) and rank_and_world_size()[0] == 0:
        warnings.warn(
            f"The encoder {type(unwrapped(encoder)).__name__} ends in `{name}`, so what is kept are {width} logits, "
            "not features: put nn.Identity() in its place, or make the encoder with num_classes=0.",
            stacklevel=4,
        )


def _fingerprint(encoding: Encoding, source: Source, settings: Extraction) -> dict[str, Any]:
    return {
        "encoder": encoder_fingerprint(encoding.encoder),
        "data": source.fingerprint(),
        "extraction": {
            "views": settings.views,
            "augment": settings.augmented,
            "augmentation": source.augmentation() if settings.augmented else None,
            "dtype": str(settings.dtype).removeprefix("torch."),
            "precision": str(encoding.autocast or torch.float32).removeprefix("torch."),
        },
    }


def _require_alike(fingerprint: dict[str, Any]) -> None:
    """Refuse processes whose encoders or data differ: their features do not belong in one bank."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return
    found: list[Any] = [None] * world_size
    dist.all_gather_object(found, fingerprint)
    for other, values in enumerate(found):
        if values != found[0]:
            part = next(key for key in values if values[key] != found[0][key])
            raise LongTailError(
                f"Process {other} has another {part} than process 0 ({values[part]} and {found[0][part]}): "
                "load the same checkpoint and data in all of them."
            )


def _first(encoding: Encoding, source: Source) -> tuple[int, bool]:
    """Encode one input to learn the number of features, and whether there are labels."""
    with source.loading(1, 0), isolated_rng(0):
        batch = next(iter(source.loader([0], augment=False, view=0)))
        width = encoding(source.prepare(batch, encoding.device, augment=False)).shape[1]
        return width, labels_of_batch(batch) is not None


def _fill(writer: Writer, encoding: Encoding, source: Source, settings: Extraction, resume: str = "") -> None:
    """Let all processes extract their shares; when interrupted, say what is kept."""
    try:
        raise_on_all_ranks(lambda: _run(writer, encoding, source, settings))
    except KeyboardInterrupt:
        done, total = len(writer.done()), writer.shards.total
        told = f", {done} of {total} shards are kept: continue with {resume}" if resume else ""
        raise KeyboardInterrupt(f"Extraction was interrupted{told}.") from None


def _run(writer: Writer, encoding: Encoding, source: Source, settings: Extraction) -> None:
    """Extract this process's share of what is missing."""
    rank, world_size = rank_and_world_size()
    shards, num_classes = writer.shards, source.classes()[0]
    share = shards.share(rank, world_size, writer.done())
    number = sum(len(shards.inputs(shard)) for chosen in share.values() for shard in chosen)
    title = f"{source.split or ''} features".lstrip() + (f" (process 1 of {world_size})" if world_size > 1 else "")
    with progress_bar(title, number, shown=settings.progress and rank == 0, unit="inputs") as tell:
        done = 0
        for view, chosen in share.items():
            indices = list(chain.from_iterable(shards.inputs(shard) for shard in chosen))
            loader = source.loader(indices, augment=settings.augmented, view=view)
            for batch, (shard, inputs, last) in zip(loader, shards.batches(chosen), strict=True):
                features = _features(encoding, source, batch, settings.augmented, (view, inputs.start))
                features = features.to(settings.dtype)
                if not bool(features.isfinite().all()):
                    raise _not_finite(features, inputs, source)
                writer.write(view, inputs, features.cpu(), labels_of_batch(batch, num_classes))
                if last:
                    writer.finish(view, shard)
                tell(done := done + len(inputs), number)


def _features(encoding: Encoding, source: Source, batch: Any, augment: bool, key: tuple[int, int]) -> Tensor:
    with isolated_rng(*key):
        return encoding(source.prepare(batch, encoding.device, augment=augment))


def _not_finite(features: Tensor, inputs: range, source: Source) -> NotFiniteError:
    wrong = (~features.isfinite().all(1)).nonzero().flatten().tolist()
    names = source.ids()
    names = range(source.number) if names is None else names
    first = [names[inputs[i]] for i in wrong[:3]]
    # Later batches are not checked: one bad batch ends the extraction, so the total is unknown.
    return NotFiniteError.of(len(wrong), source.number, first, features.dtype, at_least=True)
