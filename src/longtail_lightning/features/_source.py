"""Where images come from: a data module or a loader, read in a given order and reproducibly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import isolated_rng
from longtail_lightning.counts import as_labels
from longtail_lightning.features._dataset import Names, chosen_items, files_of, stored_labels
from longtail_lightning.features._fingerprint import checksum, tensor_parts


class Source(ABC):
    """Images of one split: how many, what they are called, and batches of them in any order."""

    name: str
    """Class of the data module or data set."""
    split: str | None
    """None when it is not known."""
    number: int
    """Images in the split."""
    batch_size: int
    num_workers: int
    dataset: Any

    def known_labels(self) -> Tensor | None:
        """Numbers that differ when the labels differ, known without loading an image."""
        return self.labels()

    @abstractmethod
    def labels(self) -> Tensor | None:
        """Class index of each image; None when only the batches hold them, or there are none."""

    @abstractmethod
    def ids(self) -> Sequence[Any] | None:
        """What each image is called; None for its number."""

    @abstractmethod
    def texts(self) -> Sequence[Any] | None:
        """A text for each image."""

    @abstractmethod
    def classes(self) -> tuple[int | None, list[str] | None]:
        """Number and names of the classes, as far as the data know them."""

    @abstractmethod
    def loader(self, indices: Sequence[int], *, augment: bool, view: int) -> Iterable[Any]:
        """Batches of these images, in this order; what is random depends on the view and the image alone."""

    @abstractmethod
    def prepare(self, batch: Any, device: torch.device, *, augment: bool) -> Tensor:
        """The images of a batch as the encoder takes them, on its device."""

    @contextmanager
    def loading(self, batch_size: int, num_workers: int) -> Iterator[None]:
        """Load in batches of this size with so many processes."""
        before = self.batch_size, self.num_workers
        self._set_loading(batch_size, num_workers)
        try:
            yield
        finally:
            self._set_loading(*before)

    def _set_loading(self, batch_size: int, num_workers: int) -> None:
        self.batch_size, self.num_workers = batch_size, num_workers

    def fingerprint(self) -> dict[str, Any]:
        """Name, split and size, checksums of labels and ids and of three images."""
        labels, ids = self.known_labels(), self.ids()
        # Two halves of a data set may have the same labels; without names, only the indices tell them apart.
        chosen = chosen_items(self.dataset) if ids is None else None

        def parts() -> Iterator[bytes]:
            for tensor in (labels, chosen):
                if tensor is not None:
                    yield from tensor_parts(tensor)
            for name in () if ids is None else ids:
                yield str(name).encode("utf-8", "surrogateescape")

        return {
            "name": self.name,
            "split": self.split,
            "number": self.number,
            "labels": checksum(parts()) if any(x is not None for x in (labels, ids, chosen)) else None,
            "images": checksum(part for image in self.probe() for part in tensor_parts(image)),
        }

    def probe(self, *, augment: bool = False) -> list[Tensor]:
        """The first, a middle and the last image as they are loaded, or as they are trained on.

        The same labels do not make the same data: another seed, size or transform gives other features.
        """
        chosen = sorted({0, self.number // 2, self.number - 1})
        with self.loading(1, 0), isolated_rng(0):
            batches = list(self.loader(chosen, augment=augment, view=0))
            if not augment:
                return [images_of(batch, self.name) for batch in batches]
            return [self.prepare(batch, torch.device("cpu"), augment=True) for batch in batches]

    def augmentation(self) -> str:
        """How images are augmented: a checksum of three of them."""
        return checksum(part for image in self.probe(augment=True) for part in tensor_parts(image))[:12]


class DataModuleSource(Source):
    """A split of a data module of this library."""

    def __init__(self, datamodule: Any, split: str) -> None:
        self.datamodule = datamodule
        self.name = type(datamodule).__name__
        if split not in ("train", "val", "test"):
            raise LongTailError(f"{self.name} has no split {split!r}: choose 'train', 'val' or 'test'.")
        self.split = split
        self._labels: Tensor = datamodule.labels(split)
        self.dataset = datamodule.dataset(split)
        self.number = len(self._labels)
        self.batch_size, self.num_workers = datamodule.batch_size, datamodule.num_workers

    def labels(self) -> Tensor:
        return self._labels

    def ids(self) -> Sequence[str] | None:
        names = Names(partial(self.datamodule.item_name, split=self.split), self.number)
        looked_at = {0, self.number // 2, self.number - 1}
        return None if all(names[index] == str(index) for index in looked_at) else names

    def texts(self) -> None:
        return None

    def classes(self) -> tuple[int, list[str]]:
        return self.datamodule.class_counts.num_classes, list(self.datamodule.class_names)

    def loader(self, indices: Sequence[int], *, augment: bool, view: int) -> Iterable[Any]:
        loader: Iterable[Any] = self.datamodule.ordered_dataloader(
            self.split, indices=indices, augment=augment, view=view
        )
        return loader

    def prepare(self, batch: Any, device: torch.device, *, augment: bool) -> Tensor:
        images = images_of(batch, self.name).to(device, non_blocking=True)
        prepared: Tensor = self.datamodule.prepare_batch(images, items=batch[-1], augment=augment)
        return prepared

    def _set_loading(self, batch_size: int, num_workers: int) -> None:
        super()._set_loading(batch_size, num_workers)
        self.datamodule.batch_size, self.datamodule.num_workers = batch_size, num_workers

    def probe(self, *, augment: bool = False) -> list[Tensor]:
        means = [
            torch.tensor(getattr(self.datamodule, name, None) or [], dtype=torch.float64) for name in ("mean", "std")
        ]
        return [*super().probe(augment=augment), *means]


class LoaderSource(Source):
    """The data set of a loader, without the loader's sampler.

    Args:
        loader: says how to load and to collate.
        split: which split it is, when that is known.
        num_classes: how many classes there are, when that is known.
        hooks: what happens to a batch before it is used, such as the transfer hooks of the user's module.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        split: str | None,
        num_classes: int | None = None,
        *,
        hooks: Callable[[Any], Any] | None = None,
    ) -> None:
        dataset = loader.dataset
        self.name = type(dataset).__name__
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise LongTailError(
                f"{self.name} can only be read from its beginning, but features are extracted in shards: "
                "give a data set with __getitem__ and __len__."
            )
        self.original = loader
        self.hooks = hooks
        self.dataset = dataset
        self.split = split
        self.number = len(self.dataset)
        if self.number == 0:
            raise LongTailError(f"{self.name} is empty: there is nothing to extract.")
        names = getattr(dataset, "classes", None)
        self._names = [str(name) for name in names] if names is not None else None
        if num_classes is not None and self._names is not None and num_classes != len(self._names):
            raise LongTailError(
                f"num_classes={num_classes}, but {self.name}.classes names {len(self._names)}: leave num_classes out, "
                "or correct one of the two."
            )
        self.num_classes = num_classes
        self.batch_size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 64
        self.num_workers = loader.num_workers

    def labels(self) -> Tensor | None:
        return None

    def known_labels(self) -> Tensor | None:
        return stored_labels(self.dataset)

    def ids(self) -> Sequence[Any] | None:
        own = self._column("ids")
        return files_of(self.dataset) if own is None else own

    def texts(self) -> Sequence[Any] | None:
        return self._column("texts")

    def _column(self, name: str) -> Sequence[Any] | None:
        values: Sequence[Any] | None = getattr(self.dataset, name, None)
        return values if values is not None and len(values) == self.number else None

    def classes(self) -> tuple[int | None, list[str] | None]:
        return self.num_classes, self._names

    def loader(self, indices: Sequence[int], *, augment: bool, view: int) -> Iterator[Any]:
        # Here, not above: features are used without torchvision, which data sets need.
        from longtail_lightning.datasets.loader import ResumableLoader
        from longtail_lightning.datasets.seeded_dataset import SeededDataset, collate

        old, workers = self.original, self.num_workers
        loader = ResumableLoader(
            SeededDataset(self.dataset, view=view, whole_batches=False),
            batch_size=self.batch_size,
            sampler=indices,
            collate_fn=partial(collate, stack=old.collate_fn, with_items=False),
            num_workers=workers,
            pin_memory=old.pin_memory,
            timeout=old.timeout if workers else 0,
            worker_init_fn=old.worker_init_fn,
            prefetch_factor=old.prefetch_factor if workers else None,
            multiprocessing_context=old.multiprocessing_context if workers else None,
        )
        for number, batch in enumerate(loader):
            if self.hooks is None:
                yield batch
                continue
            # A hook's random numbers depend on these images, not on the process that has them.
            with isolated_rng(view, indices[number * self.batch_size]):
                batch = self.hooks(batch)
            yield batch

    def prepare(self, batch: Any, device: torch.device, *, augment: bool) -> Tensor:
        images = images_of(batch, self.name)
        if not images.is_floating_point():
            raise LongTailError(
                f"{self.name} gives {images.dtype} images, which the encoder cannot take: scale and normalize them in "
                "the transform of the data set, or pass a data module of this library, which does it by itself."
            )
        return images.to(device, non_blocking=True)


def source_of(source: Any, split: str | None, num_classes: int | None = None) -> Source:
    """Read a data module (`split` of it, "train" by default) or a loader (its data set)."""
    if isinstance(source, DataLoader):
        return LoaderSource(source, split, num_classes)
    if num_classes is not None:
        raise LongTailError(
            f"num_classes is for a DataLoader: a {type(source).__name__} knows its classes; leave it out."
        )
    if isinstance(source, Source):
        return source
    if hasattr(source, "ordered_dataloader"):
        return DataModuleSource(source, split or "train")
    raise LongTailError(
        f"Features are extracted from a DataLoader or a data module of this library, not from a "
        f"{type(source).__name__}: wrap the data set in DataLoader(dataset, batch_size=...)."
    )


def images_of(batch: Any, name: str) -> Tensor:
    """The images of a batch, which is a tensor of them or begins with one."""
    images = batch[0] if isinstance(batch, (list, tuple)) and batch else batch
    if isinstance(images, Tensor):
        return images
    raise LongTailError(
        f"{name} gives batches as {type(batch).__name__}, expected (images, labels) or images alone: return those."
    )


def labels_of_batch(batch: Any, num_classes: int | None = None) -> Tensor | None:
    """The labels of a batch; None when it holds images alone."""
    return as_labels(batch[1], num_classes) if isinstance(batch, (list, tuple)) and len(batch) > 1 else None
