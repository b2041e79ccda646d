"""Texts as the mean of the vectors of their words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning._number_range import require_whole
from longtail_lightning.text._base import TextEncoder
from longtail_lightning.text._word_table import WordTable
from longtail_lightning.text.word_vectors import FileVectors, RandomVectors

_WORD = re.compile(r"[^\W_]+")


class BagOfWords(TextEncoder):
    r"""The mean of fixed word vectors: random ones, or those of a GloVe file.

    \(\frac{1}{n} \sum_i v(w_i)\) over the \(n\) words of the text, in lower case. A random vector is drawn once per
    word from a uniform distribution, as a function of (seed, word) alone: all processes and all runs have the same. A
    text without a known word gives zeros.

    **When it helps, when it hurts.** Costs next to nothing, and in the paper a trained language model is better by a
    few points at most where texts are names of classes. It knows no order of words; random vectors know no meaning.

    Args:
        dim: width of the vectors; those of a file must be as wide.
        seed: of random vectors.
        standardized: whether random vectors have mean 0 and variance 1; False: they lie in [0, 1), as the paper's.
        vectors: a text file of one word and its numbers a line, as GloVe's; the vectors of the words that were
            looked up become part of a checkpoint, which then does without the file.

    Examples:
        >>> encoder = BagOfWords(dim=8)
        >>> cat, wild_cat, cat_wild = encoder(["cat", "wild cat", "Cat, wild"])
        >>> cat.shape, bool((wild_cat == cat_wild).all()), bool((cat == cat_wild).all())
        (torch.Size([8]), True, False)

    **Paper.** Long et al., Retrieval Augmented Classification, CVPR 2022, section 4.5; Pennington et al., GloVe, EMNLP
    2014.

    **Differences from the paper.** Its vectors lie in [0, 1): the mean of many is 0.5 and little more, whatever the
    text says, and what is behind it learns ten times slower. So they are standardized by default.
    """

    start_only: ClassVar[Mapping[str, Any]] = {"vectors": None}

    def __init__(
        self, dim: int = 300, *, seed: int = 0, standardized: bool = True, vectors: str | Path | None = None
    ) -> None:
        super().__init__()
        require_whole(self, "dim", dim, 1)
        self.dim = self.num_features = int(dim)
        self.seed = seed
        self.standardized = standardized
        self.vectors = vectors
        drawn = RandomVectors(self.dim, seed, standardized=standardized)
        source = drawn if vectors is None else FileVectors(vectors, self.dim)
        self.table = WordTable(self.dim, source)

    @property
    def vocabulary(self) -> Any:
        return self.table.number_of

    def meet(self, texts: Iterable[str]) -> None:
        if self.vectors is not None:  # a checkpoint needs those of all words, whichever a process has met
            for text in texts:
                self.tokens(text)

    def tokens(self, text: str) -> list[int]:
        return self.table.numbers(_WORD.findall(text.lower()))

    def encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        there = torch.arange(tokens.shape[1]) < lengths[:, None]
        starts = F.pad(lengths.cumsum(0), (1, 0))[:-1]
        vectors = self.table.vectors()
        if not len(vectors):  # not one word is known
            return torch.zeros(len(tokens), self.dim, device=tokens.device)
        return F.embedding_bag(tokens[there.to(tokens.device)], vectors, starts.to(tokens.device), mode="mean")

    def extra_repr(self) -> str:
        return f"dim={self.dim}, seed={self.seed}"
