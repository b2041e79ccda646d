"""The words that an encoder has met, and their vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.text.word_vectors import NoVectors, RandomVectors, WordVectors


class WordTable(nn.Module):
    """Grows by the words that it is asked for. Vectors that come from a file travel in a checkpoint, with their words.

    The vectors are no buffer: each process numbers words in the order in which it meets them, and
    DistributedDataParallel would give all of them those of the first.

    Args:
        dim: width of the vectors.
        source: where they come from.
    """

    place: Tensor

    def __init__(self, dim: int, source: WordVectors) -> None:
        super().__init__()
        self.dim = dim
        self.source = source
        self.number_of: dict[str, int | None] = {}
        """Another object once the numbers mean other words."""
        self._kept = torch.empty(0, dim)
        self._new: list[np.ndarray] = []
        self.register_buffer("place", torch.zeros(1), persistent=False)  # says which device and type the vectors have

    def numbers(self, words: Iterable[str]) -> list[int]:
        """Numbers of some words in the table; a word without a vector is left out."""
        found = []
        for word in words:
            if word not in self.number_of:
                vector = self.source(word)
                self.number_of[word] = None if vector is None else len(self._kept) + len(self._new)
                self._new += [] if vector is None else [vector]
            if (number := self.number_of[word]) is not None:
                found.append(number)
        return found

    def vectors(self) -> Tensor:
        """`(words, dim)`: all vectors, on the device of the table."""
        with torch.inference_mode(False):  # what is made here serves training, too
            if self._new:
                added = torch.from_numpy(np.stack(self._new)).to(self._kept)
                self._kept, self._new = torch.cat([self._kept, added]), []
            self._kept = self._kept.to(self.place)
        return self._kept

    def _spelled(self) -> Tensor:
        """The words with a vector as bytes: a checkpoint holds tensors."""
        known = "\n".join(word for word, number in self.number_of.items() if number is not None)
        return torch.frombuffer(bytearray(known.encode("utf-8", "surrogatepass")), dtype=torch.uint8)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[no-untyped-call]
        if not isinstance(self.source, RandomVectors):
            destination[f"{prefix}kept"] = self.vectors()
            destination[f"{prefix}words"] = self._spelled() if len(self._kept) else torch.empty(0, dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        vectors, words = (state_dict.pop(f"{prefix}{name}", None) for name in ("kept", "words"))
        if vectors is not None and words is not None:
            told = bytes(words.cpu().numpy().astype(np.uint8)).decode("utf-8", "surrogatepass")
            spelled = told.split("\n") if told else []
            if vectors.shape != (len(spelled), self.dim):
                raise LongTailError(
                    f"The checkpoint has {len(spelled)} words and vectors of shape {tuple(vectors.shape)} for a width "
                    f"of {self.dim}: it is damaged; give another file."
                )
            if isinstance(self.source, RandomVectors):  # the file is not here, and is not needed for these words
                self.source = NoVectors()
            self.number_of, self._new = {word: number for number, word in enumerate(spelled)}, []
            self._kept = vectors.detach().clone().to(self.place)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[no-untyped-call]
