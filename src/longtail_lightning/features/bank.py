"""The second noun of the library: the features that an encoder gave for a whole split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, as_labels
from longtail_lightning.features import _storage as files
from longtail_lightning.features._fingerprint import encoder_fingerprint, require_equal
from longtail_lightning.features._source import source_of

_CHUNK = 1 << 26
"""Numbers looked at at once: a mapped bank is never in memory as a whole."""


class FeatureBank:
    r"""Features, labels, ids and texts of the images of a split, in memory or mapped from a folder.

    Whatever needs the backbone once and the classifier often works on a bank: re-training, class
    means, \(\tau\)-normalization, retrieval. Several augmented views of each image can be kept;
    `features` is the first of them. All features are finite: a bank with NaN cannot be made.

    On disk a bank is a folder of npy and JSON files, never pickle. Features keep their type;
    `float16` halves the file and costs features nothing that matters: their relative error is below
    1/2000, and for values below 6e-5 the absolute one below 3e-8. (npy has no bfloat16, which would be
    eight times as coarse; bfloat16 becomes `float32`, exactly.)

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.randn(3, 8), [0, 2, 0], ids=["a.jpg", "b.jpg", "c.jpg"])
        >>> len(bank), bank.num_features, bank.class_counts
        (3, 8, ClassCounts([2, 0, 1]))
        >>> from tempfile import mkdtemp
        >>> FeatureBank.load(bank.save(mkdtemp())).subset([1]).ids
        ['b.jpg']
    """

    def __init__(
        self,
        views: Tensor,
        labels: Tensor,
        ids: Sequence[Any] | None,
        texts: Sequence[Any] | None,
        num_classes: int,
        class_names: Sequence[str] | None,
        fingerprint: dict[str, Any],
        path: Path | None = None,
    ) -> None:
        # Everything is checked in `from_arrays` and `load`, which are how banks are made.
        self.views = views
        self.labels = labels
        self._ids = ids
        self.texts = texts
        self.num_classes = num_classes
        self._class_names = class_names
        self.fingerprint = fingerprint
        self.path = path

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        labels: Any,
        ids: Sequence[Any] | None = None,
        texts: Sequence[Any] | None = None,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        fingerprint: dict[str, Any] | None = None,
    ) -> FeatureBank:
        """Make a bank of what is in memory.

        Args:
            features: `(images, features)`, or `(views, images, features)`; tensor or array.
            labels: class index of each image.
            ids: what each image is called; its number by default.
            texts: a text for each image.
            num_classes: how many classes there are; the largest label + 1 when not given.
            class_names: one name per class; the numbers by default.
            fingerprint: what made the features and of what, see `check`.
        """
        views = _as_views(features)
        if num_classes is None and class_names is not None:
            num_classes = len(class_names)
        labels = as_labels(labels, num_classes)
        num_classes = num_classes or int(labels.max()) + 1
        for name, given, expected in (
            ("labels", labels, views.shape[1]),
            ("ids", ids, views.shape[1]),
            ("texts", texts, views.shape[1]),
            ("class_names", class_names, num_classes),
        ):
            if given is not None and len(given) != expected:
                unit = "classes" if name == "class_names" else "images"
                raise LongTailError(f"A bank of {expected} {unit} got {len(given)} {name}: give one for each.")
        bank = cls(
            views,
            labels,
            _plain_list(ids),
            _plain_list(texts),
            num_classes,
            _plain_list(class_names),
            dict(fingerprint or {}),
        )
        bank._check_finite()
        return bank

    # -- what it holds ---------------------------------------------------------------------------

    @property
    def features(self) -> Tensor:
        """`(images, features)`: those of the first view."""
        return self.views[0]

    def view(self, index: int) -> Tensor:
        """`(images, features)` of a view; counting goes on from the first after the last."""
        return self.views[index % self.num_views]

    @property
    def num_views(self) -> int:
        """How many times each image was seen, differently augmented each time."""
        return self.views.shape[0]

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.views.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the features."""
        return self.views.dtype

    @property
    def ids(self) -> Sequence[Any]:
        """What each image is called; its number when nothing was given."""
        return range(len(self)) if self._ids is None else self._ids

    @property
    def class_names(self) -> list[str]:
        """One name per class."""
        return [str(c) for c in range(self.num_classes)] if self._class_names is None else list(self._class_names)

    @cached_property
    def class_counts(self) -> ClassCounts:
        """Images of each class."""
        return ClassCounts.from_labels(self.labels, self.num_classes)

    def __len__(self) -> int:
        return self.views.shape[1]

    def __repr__(self) -> str:
        views = f", {self.num_views} views" if self.num_views > 1 else ""
        kind = str(self.dtype).removeprefix("torch.")
        return f"FeatureBank({len(self)} x {self.num_features} {kind}{views}, {self.num_classes} classes)"

    # -- what one does with it -------------------------------------------------------------------

    def batches(
        self,
        size: int = 8192,
        *,
        view: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and labels in order, `size` images at a time; a mapped bank is read as it goes.

        Args:
            size: images per batch.
            view: which view.
            device: where the batches go.
            dtype: type of the features that are handed out.
        """
        features = self.view(view)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield features[part].to(device).to(dtype), self.labels[part].to(device)

    def subset(self, indices: Any) -> FeatureBank:
        """A bank of these images, in this order and in memory; the classes stay.

        Args:
            indices: numbers of the images, or one truth value per image.
        """
        chosen = torch.as_tensor(indices)
        chosen = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen.long()
        if chosen.numel() == 0:
            raise LongTailError("A subset without images is no bank: give at least one index.")
        if int(chosen.min()) < -len(self) or int(chosen.max()) >= len(self):
            wrong = int(chosen.max()) if int(chosen.max()) >= len(self) else int(chosen.min())
            raise LongTailError(f"The bank has {len(self)} images, there is no image {wrong}.")
        chosen = chosen % len(self)
        numbers = chosen.tolist()
        return FeatureBank(
            self.views[:, chosen],
            self.labels[chosen],
            [self.ids[i] for i in numbers],
            None if self.texts is None else [self.texts[i] for i in numbers],
            self.num_classes,
            self._class_names,
            self._fingerprint_of_part(len(numbers)),
        )

    def _of_classes(self, num_classes: int) -> FeatureBank:
        """The same bank of more classes, the last ones without images; as it is when it names its classes."""
        if self._class_names is not None or num_classes <= self.num_classes:
            return self
        return FeatureBank(
            self.views, self.labels, self._ids, self.texts, num_classes, None, self.fingerprint, self.path
        )

    def _fingerprint_of_part(self, number: int) -> dict[str, Any]:
        """Still of this data set and split, but no longer all of it."""
        if not (data := self.fingerprint.get("data")):
            return dict(self.fingerprint)
        return {**self.fingerprint, "data": {**data, "number": number, "labels": None, "images": None}}

    def require_all_classes(self, what: str) -> None:
        """Refuse, in the name of `what`, a bank in which a class has no image.

        Args:
            what: who needs every class, for the error.
        """
        missing = (self.class_counts.tensor == 0).nonzero().flatten().tolist()
        if missing:
            names = ", ".join(self.class_names[c] for c in missing[:3])
            raise LongTailError(
                f"{what} needs at least one feature of each class, but the bank has none of {len(missing)} of "
                f"{self.num_classes} classes ({names}{', ...' if len(missing) > 3 else ''}): "
                "add images of them, or leave the classes out."
            )

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the bank to a folder, which is a bank only when everything is written.

        Args:
            path: the folder; a bank that is there is replaced.
        """
        folder = Path(path)
        if folder.is_file():
            raise LongTailError(f"{folder} is a file, a bank is a folder: give another path.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(folder)
        except OSError as error:
            raise LongTailError(
                f"The bank {folder} cannot be written ({error.strerror}): give the path of a folder that can."
            ) from error
        return folder

    def _write(self, folder: Path) -> None:
        # Without its header a folder is no bank: it goes first and comes last.
        (folder / files.HEADER).unlink(missing_ok=True)
        files.write_array(folder / files.FEATURES, self.views.numpy())
        write_items(folder, self.labels, self._ids, self.texts)
        files.write_json(folder / files.HEADER, self.header())

    def header(self) -> dict[str, Any]:
        """What `bank.json` holds."""
        return {
            "format": files.FORMAT,
            "dtype": str(self.dtype).removeprefix("torch."),
            "shape": list(self.views.shape),
            "num_classes": self.num_classes,
            "class_names": None if self._class_names is None else list(self._class_names),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def load(cls, path: str | Path, *, mmap: bool = True, expect: dict[str, Any] | None = None) -> FeatureBank:
        """Open a bank.

        Args:
            path: its folder.
            mmap: read features from the file as they are needed, instead of all at once.
            expect: the fingerprint that it must have, or the part of it that matters.
        """
        folder = Path(path)
        header = read_header(folder)
        try:
            views = files.as_tensor(files.read_array(folder / files.FEATURES, mmap=mmap))
            labels = files.as_tensor(files.read_array(folder / files.LABELS))
            ids, texts = (
                files.read_lines(folder / name) if (folder / name).exists() else None
                for name in (files.IDS, files.TEXTS)
            )
        except files.DAMAGED as error:
            raise LongTailError(f"The bank {folder} is damaged ({error}): extract the features again.") from error
        found = {"shape": list(views.shape), "labels": len(labels)}
        if found != {"shape": header["shape"], "labels": header["shape"][1]}:
            raise LongTailError(
                f"The bank {folder} is damaged: {files.HEADER} tells {header['shape']}, the files hold {found}; "
                "extract the features again."
            )
        bank = cls(
            views, labels, ids, texts, header["num_classes"], header["class_names"], header["fingerprint"], folder
        )
        if expect is not None:
            require_equal(expect, bank.fingerprint, bank._named(), "extract the features again")
        return bank

    def check(self, *, encoder: nn.Module | None = None, data: Any = None) -> FeatureBank:
        """Refuse the bank when another encoder made it, or of other data.

        Args:
            encoder: the encoder whose features are wanted.
            data: the data module or loader whose features are wanted.
        """
        expect: dict[str, Any] = {}
        if encoder is not None:
            expect["encoder"] = encoder_fingerprint(encoder)
        if data is not None:
            expect["data"] = source_of(data, self.fingerprint.get("data", {}).get("split")).fingerprint()
        require_equal(expect, self.fingerprint, self._named(), "extract the features again")
        return self

    # -- inside ----------------------------------------------------------------------------------

    def _named(self) -> str:
        return f"The bank {self.path}" if self.path else "The bank"

    def _check_finite(self) -> None:
        rows = max(1, _CHUNK // self.num_features)
        wrong: list[int] = []
        for view in self.views:
            for start in range(0, len(self), rows):
                bad = ~view[start : start + rows].isfinite().all(1)
                wrong += (bad.nonzero().flatten() + start).tolist()
        if wrong:
            wrong = sorted(set(wrong))
            raise LongTailError(not_finite(len(wrong), len(self), [self.ids[i] for i in wrong[:3]], self.dtype))


def require_fits(train: FeatureBank, other: FeatureBank, called: str) -> None:
    """Refuse a bank of another split that is not of the same encoder and classes."""
    names = train._class_names, other._class_names
    if (
        other.num_features != train.num_features
        or other.num_classes > train.num_classes
        or (None not in names and list(names[0] or []) != list(names[1] or []))
    ):
        raise LongTailError(
            f"{called}, {other!r}, does not go with {train!r}: extract both with one encoder, of splits with "
            "the same classes."
        )


def require_bank(bank: Any, argument: str = "bank") -> None:
    """Refuse anything but a bank, such as its folder."""
    if isinstance(bank, (str, Path)):
        raise LongTailError(f"{argument}={str(bank)!r} is a path: open the bank, FeatureBank.load({str(bank)!r}).")
    if not isinstance(bank, FeatureBank):
        raise LongTailError(
            f"{argument} is a {type(bank).__name__}, not a FeatureBank: make one with extract_features or "
            "FeatureBank.from_arrays."
        )


def refuse_test(bank: FeatureBank, what: str) -> None:
    """Nothing is chosen on test images."""
    data: Any = bank.fingerprint.get("data") or {}
    if data.get("split") == "test":
        raise LongTailError(
            f"{what} is never chosen on test images, and this bank holds those of {data.get('name', 'a test set')}: "
            "pass a bank of the validation or training split."
        )


def not_finite(number: int, total: int, first: Sequence[Any], dtype: torch.dtype, *, at_least: bool = False) -> str:
    """The sentence about features that are no numbers."""
    names = ", ".join(str(name) for name in first)
    fix = "store them as float32, or look at these images" if dtype == torch.float16 else "look at these images"
    return (
        f"Features of {'at least ' if at_least else ''}{number} of {total} images are NaN or infinite "
        f"(ids {names}{', ...' if number > len(first) else ''}): {fix}, and check that the encoder is trained."
    )


def write_items(folder: Path, labels: Tensor, ids: Sequence[Any] | None, texts: Sequence[Any] | None) -> None:
    """Write everything but the features and the header."""
    files.write_array(folder / files.LABELS, labels.numpy())
    for name, items in ((files.IDS, ids), (files.TEXTS, texts)):
        if items is None:
            (folder / name).unlink(missing_ok=True)
        else:
            files.write_lines(folder / name, items)


def read_header(folder: Path) -> dict[str, Any]:
    """The header of a finished bank, or the reason why there is none."""
    if (folder / files.HEADER).is_file():
        header: dict[str, Any] = files.read_json(folder / files.HEADER)
        if header.get("format") != files.FORMAT:
            raise LongTailError(
                f"The bank {folder} has format {header.get('format')}, this version of the library reads "
                f"{files.FORMAT}: extract the features again."
            )
        return header
    if (folder / files.PROGRESS).is_file():
        progress = files.read_json(folder / files.PROGRESS)
        done = sum(1 for _ in (folder / files.DONE).iterdir()) if (folder / files.DONE).is_dir() else 0
        raise LongTailError(
            f"The bank {folder} is unfinished, {done} of {progress['shards']} shards are there: "
            f"continue with {progress['resume']}."
        )
    if inside := sorted(header.parent.name for header in folder.glob(f"*/{files.HEADER}")):
        one = folder / ("train" if "train" in inside else inside[0])
        raise LongTailError(
            f"{folder} is no bank, but a folder of banks ({', '.join(inside)}): load one, such as {str(one)!r}."
        )
    raise LongTailError(f"{folder} is no bank, it has no {files.HEADER}: make one with extract_features(..., path).")


def _as_views(features: Any) -> Tensor:
    if isinstance(features, np.ndarray) and not features.flags.writeable:
        features = features.copy()
    views = torch.as_tensor(features).detach().cpu()
    if views.dtype == torch.bfloat16 or not views.is_floating_point():
        views = views.float()
    if views.ndim == 2:
        views = views[None]
    if views.ndim != 3 or 0 in views.shape:
        raise LongTailError(
            f"features must be (images, features) or (views, images, features), got shape {tuple(views.shape)}: "
            "flatten what the encoder gives."
        )
    return views


def _plain_list(values: Sequence[Any] | None) -> list[Any] | None:
    if values is None:
        return None
    return values.tolist() if hasattr(values, "tolist") else list(values)
