"""What every text encoder shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError


class TextEncoder(nn.Module, ABC):
    """Base of all text encoders: a list of texts to features `(texts, num_features)`.

    A child answers two questions: which tokens a text has, and what the features of rows of tokens are. They are
    apart so that a text is cut into tokens once, however often it is encoded, alone or joined with others.
    """

    num_features: int
    """Width of the features; set by the child."""
    max_tokens: int | None = None
    """How many tokens of a text are encoded, the rest is cut off; None for all."""

    @property
    def vocabulary(self) -> Any:
        """Another object once texts have other tokens, so that those of before are of no use."""
        return None

    def meet(self, texts: Iterable[str]) -> None:
        """Get to know all texts of a memory before a run; most encoders need not.

        Args:
            texts: each once.
        """

    @abstractmethod
    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, all of them, without those that mark its begin and end."""

    @abstractmethod
    def encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features `(rows, num_features)`.

        Args:
            tokens: `(rows, longest)`, int64, on the device of the encoder; what is behind the end of a row is 0.
            lengths: `(rows,)`, int64, on the CPU: tokens of each row, `max_tokens` at most; a row may be empty.
        """

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Features of some texts."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise LongTailError(f"{type(self).__name__} takes a list of texts, got {texts!r:.60}.")
        rows = [self.tokens(text)[: self.max_tokens] for text in texts]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        longest = max(1, int(lengths.max()) if len(rows) else 0)
        tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return self.encode(tokens.to(self.device), lengths)

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))
