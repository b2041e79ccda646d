"""What a batch finds in a memory: without itself, and found anew or once for the whole run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import from_command_line
from longtail_lightning._number_range import require_whole
from longtail_lightning._progress import progress_bar
from longtail_lightning.backbones import IdentityBackbone
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._fingerprint import encoder_fingerprint
from longtail_lightning.features._source import source_of
from longtail_lightning.modules._checkpoint import MissingPart
from longtail_lightning.retrieval import RetrievalMemory

Exclude = Literal["id", "first", "none"]
Remember = Literal["exact", "cached"]
_QUERIES = 1024  # at a time, when all of a split are looked up


class Lookup:
    """The memory of a model, which is no part of it: not in its weights, not in its checkpoints.

    Args:
        memory: the memory, its folder, or None until one is given.
        k: neighbors of an image.
        exclude: what an image does not find in training: `"id"`, itself, by its id in `own_source`; `"first"`, the
            nearest item, as the paper does; or `"none"`.
        own_source: the source of the memory that holds the training images.
        neighbors: `"exact"`, or `"cached"`: found once for a fit.

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.eye(3), ids=["a", "b", "c"], texts=["cat", "dog", "wolf"])
        >>> lookup = Lookup(RetrievalMemory.build(bank), k=1)
        >>> lookup.names["train"] = ["a", "b"]
        >>> query = torch.tensor([[1.0, 0.0, 0.1]])
        >>> lookup.find(query).tolist(), lookup.find(query, "train", torch.tensor([0])).tolist()
        ([[0]], [[2]])
    """

    def __init__(
        self,
        memory: RetrievalMemory | str | Path | None = None,
        *,
        k: int = 30,
        exclude: Exclude = "id",
        own_source: str = "train",
        neighbors: Remember = "exact",
    ) -> None:
        if exclude not in ("id", "first", "none"):
            raise LongTailError(f"Unknown exclude={exclude!r}: choose 'id', 'first' or 'none'.")
        if neighbors not in ("exact", "cached"):
            raise LongTailError(f"Unknown neighbors={neighbors!r}: choose 'exact' or 'cached'.")
        require_whole(self, "k", k, 1)
        self.memory = RetrievalMemory.load(memory) if isinstance(memory, (str, Path)) else memory
        self.k = int(k)
        self.neighbors = neighbors
        self.exclude: Exclude = exclude
        self.own_source = own_source
        self._from_command_line = from_command_line()
        self.was_at: str | None = None
        """Where the memory was when a loaded checkpoint was written."""
        self.names: dict[str, Sequence[Any]] = {}
        """What the items of a split are called in the memory."""
        self.lent: tuple[Any, bool] | None = None
        """The data module of a run, and whether it gave the places of its images before."""
        self._found: dict[str, Tensor] = {}
        self._found_in: Sequence[str] | None = None  # the texts that the remembered numbers mean
        self._checked: RetrievalMemory | None = None

    def __deepcopy__(self, _: Any) -> Lookup:
        """A copy of a model looks up the same memory."""
        copied = copy(self)
        copied.names, copied._found = dict(self.names), dict(self._found)
        return copied

    def require(self) -> RetrievalMemory:
        """The memory; refuse to go on without one."""
        if self.memory is None:
            place = "FOLDER" if self.was_at is None else repr(self.was_at)
            told = "" if self.was_at is None else f", which was {place} in training"
            fix = f"load(path, parts={{'memory': {place}}}), or set model.memory"
            if self._from_command_line:
                fix = f"--model.memory {place}"
            raise LongTailError(f"The model looks pictures up in a memory{told}: give it with {fix}.")
        return self.memory

    @property
    def needs_index(self) -> bool:
        """Whether training must know which items a batch holds."""
        return self.exclude == "id" and self.memory is not None and self.own_source in self.memory.sources

    def require_checked(self, encoder: nn.Module) -> None:
        """Check a memory once, when a model is used outside of a run.

        Args:
            encoder: of the queries.
        """
        if self._checked is not self.memory or self.memory is None:
            self.check(encoder)

    def refuse_mixed(self) -> None:
        """Refuse images that are blended of two, of which neither may find itself."""
        if self.exclude != "none":
            raise LongTailError(
                "mixup and cutmix blend two images, of which neither may find itself: turn them off, or choose "
                "exclude='none'."
            )

    # -- before a run ----------------------------------------------------------------------------

    def check(self, encoder: nn.Module) -> None:
        """Refuse a memory of another encoder, and one that is too small.

        Args:
            encoder: of the queries.
        """
        memory = self._checked = self.require()
        if isinstance(encoder, MissingPart):
            raise LongTailError("The encoder is missing: give the one that has made the memory, encoder=...")
        if self.k > len(memory):
            raise LongTailError(f"k={self.k}, but the memory has {len(memory)} items: ask for fewer, or add some.")
        if (width := getattr(encoder, "num_features", memory.num_features)) != memory.num_features:
            raise LongTailError(
                f"The encoder gives {width} features and those of the memory are {memory.num_features} wide: "
                "give the encoder that has made the memory."
            )
        made = memory.fingerprint.get("encoder")
        if made is None or isinstance(encoder, IdentityBackbone):
            return  # features in the place of images have passed through the encoder already
        if any(p.dtype != torch.float32 for p in encoder.parameters()):
            return  # a trainer of another precision has cast the weights, which changes their checksum
        if made != (told := encoder_fingerprint(encoder)):
            raise LongTailError(
                f"The memory was made by {made['class']} {made['checksum'][:12]} and the encoder is {told['class']} "
                f"{told['checksum'][:12]}: give the encoder with the weights that have made the memory."
            )

    def learn_names(self, datamodule: Any, split: str) -> bool:
        """Learn what the images of a split are called in the memory, and whether any of them is there.

        Args:
            datamodule: of the images.
            split: `"train"`, `"val"` or `"test"`.
        """
        source, memory = source_of(datamodule, split), self.require()
        if self.own_source not in memory.sources:
            return False
        ids = source.ids()
        if ids is None and split != "train":
            return False  # numbers are places in their split, and mean other images in the memory
        for called in _ways(range(source.number) if ids is None else ids, getattr(datamodule, "root", None)):
            if any(memory.has((self.own_source, name)) for name in called):
                self.names[split] = called
                return True
        return False

    def hides(self, datamodule: Any) -> str | None:
        """The source in which the training images are, if it is another one than `own_source`.

        Args:
            datamodule: of the images.
        """
        source, memory = source_of(datamodule, "train"), self.require()
        ids, made = source.ids(), source.fingerprint()
        called = [] if ids is None else list(_ways(ids, getattr(datamodule, "root", None)))
        some = [each[place] for each in called for place in (0, source.number // 2, -1)]
        for name, bank in memory.banks.items():
            of = bank.fingerprint.get("data") or {}
            if all(of.get(key) == made[key] for key in ("number", "labels", "images")):
                return name
            if any(memory.has((name, item)) for item in some):
                return name
        return None

    def remember(self, split: str, bank: FeatureBank, *, progress: bool) -> None:
        """Look a whole split up, once for the run.

        Args:
            split: `"train"` finds no item itself.
            bank: features of the images as they are, without augmentation.
            progress: show a progress bar.
        """
        found: list[Tensor] = []
        self._found.pop(split, None)
        self._found_in = self.require().different_texts
        with progress_bar(f"{split} neighbors", len(bank), shown=progress) as tell:
            for start in range(0, len(bank), _QUERIES):
                index = torch.arange(start, min(start + _QUERIES, len(bank)))
                found.append(self.find(bank.features[index], split, index))
                tell(int(index[-1]) + 1, len(bank))
        self._found[split] = torch.cat(found)

    # -- in a run --------------------------------------------------------------------------------

    def remembers(self, split: str | None) -> bool:
        """Whether the neighbors of a split are known, so that nothing has to be encoded."""
        return split in self._found

    def forget(self) -> None:
        """Forget what was found for a run."""
        self._found, self._found_in, self.names, self.lent = {}, None, {}, None

    def find(self, queries: Tensor | None, split: str | None = None, index: Tensor | None = None) -> Tensor:
        """`(queries, k)`, on the CPU: numbers of the texts of the nearest items, nearest first.

        Args:
            queries: features; not needed for a split whose neighbors are remembered.
            split: that the images are of; in `"train"` none finds itself.
            index: places of the images in the split.
        """
        if split is not None and split in self._found:
            if index is None:
                raise LongTailError("Remembered neighbors need the places of the images in their split: with_index.")
            if self.require().different_texts is not self._found_in:
                raise LongTailError(
                    "The memory was replaced or compacted during a run that has looked its images up before: choose "
                    "neighbors='exact', or edit it between runs."
                )
            return self._found[split][index.cpu()]
        memory = self.require()
        assert queries is not None
        queries = queries.detach().float().cpu()
        if split == "train" and self.exclude == "first":
            return memory.search(queries, self.k + 1).text_numbers[:, 1:]
        return memory.search(queries, self.k, exclude=self._themselves(split, index)).text_numbers

    def _themselves(self, split: str | None, index: Tensor | None) -> list[Any] | None:
        """The item of each image in the memory, which it must not find."""
        names = None if split is None else self.names.get(split)
        if names is None:
            return None
        if index is None:
            raise LongTailError(
                "A batch does not say which images it holds, so they could find themselves: let "
                "on_after_batch_transfer give (images, labels, index), or choose exclude='first' or 'none'."
            )
        return [(self.own_source, names[place]) for place in index.tolist()]


def _ways(ids: Sequence[Any], root: str | Path | None) -> Iterator[Sequence[Any]]:
    """What images may be called in a memory: as the data call them, by number, or by file."""
    yield ids
    if not isinstance(ids, range) and all(str(name).isdecimal() for name in islice(ids, 3)):
        yield [int(name) for name in ids]
    if isinstance(ids, range):
        yield [str(number) for number in ids]
    elif root is not None:
        for folder in (Path(root), Path(root).absolute()):
            yield [str(folder / name) for name in ids]
