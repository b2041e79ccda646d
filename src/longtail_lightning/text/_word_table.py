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

    Args:
        dim: width of the vectors.
        source: where they come from.
    """

    kept: Tensor
    words: Tensor

    def __init__(self, dim: int, source: WordVectors) -> None:
        super().__init__()
        self.dim = dim
        self.source = source
        self._number_of: dict[str, int | None] = {}
        self._new: list[np.ndarray] = []
        self._keep(torch.empty(0, dim), torch.empty(0, dtype=torch.uint8))

    def numbers(self, words: Iterable[str]) -> list[int]:
        """Numbers of some words in the table; a word without a vector is left out."""
        found = []
        for word in words:
            if word not in self._number_of:
                vector = self.source(word)
                self._number_of[word] = None if vector is None else len(self.kept) + len(self._new)
                self._new += [] if vector is None else [vector]
            if (number := self._number_of[word]) is not None:
                found.append(number)
        return found

    def vectors(self) -> Tensor:
        """`(words, dim)`: all vectors, on the device of the table."""
        if self._new:
            with torch.inference_mode(False):  # what is made here serves training, too
                added = torch.from_numpy(np.stack(self._new)).to(self.kept)
                self._new = []
                self._keep(torch.cat([self.kept, added]), self._spelled().to(self.kept.device))
        return self.kept

    def _keep(self, vectors: Tensor, words: Tensor) -> None:
        persistent = not isinstance(self.source, RandomVectors)
        self.register_buffer("kept", vectors, persistent=persistent)
        self.register_buffer("words", words, persistent=persistent)

    def _spelled(self) -> Tensor:
        """The words with a vector as bytes: a checkpoint holds tensors."""
        if isinstance(self.source, RandomVectors):
            return torch.empty(0, dtype=torch.uint8)
        known = "\n".join(word for word, number in self._number_of.items() if number is not None)
        return torch.frombuffer(bytearray(known.encode("utf-8", "surrogatepass")), dtype=torch.uint8)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.vectors()
        super()._save_to_state_dict(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        vectors, words = state_dict.get(f"{prefix}kept"), state_dict.get(f"{prefix}words")
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
            self._number_of, self._new = {word: number for number, word in enumerate(spelled)}, []
            self._keep(torch.empty_like(vectors, device=self.kept.device), torch.empty_like(words))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[no-untyped-call]
