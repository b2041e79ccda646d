"""The texts of many items as one text each, or as the mean of their features; every text is cut into tokens once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.text._base import TextEncoder

Order = Literal["nearest_first", "nearest_last", "frequent_first"]
Combine = Literal["tokens", "features"]


@dataclass(frozen=True)
class Encoded:
    """What `JoinedTexts` gives.

    Args:
        features: `(queries, num_features)`.
        truncated: share of the queries whose texts were cut off.

    Examples:
        >>> Encoded(torch.zeros(2, 8), 0.5).truncated
        0.5
    """

    features: Tensor
    truncated: float


class JoinedTexts(nn.Module):
    """Encodes the k texts of each query with one call of an encoder.

    Every text is cut into tokens by itself, once. For tokenizers of words and of CLIP these are the tokens of the
    joined string; those that take a space and the word behind it together, as GPT-2's, would cut that one otherwise.

    Args:
        separator: what stands between two texts.
        order: `"nearest_first"`, `"nearest_last"` or `"frequent_first"`, the texts that come most often before others:
            what is at the end is cut off when all together are too long.
        combine: `"tokens"`: the texts are joined to one, as in the paper. `"features"`: each different text of the
            batch is encoded once, and a query gets the mean of its texts' features, which has no limit on their
            number and knows no order.

    Examples:
        >>> from longtail_lightning.text import BagOfWords
        >>> encoder = BagOfWords(dim=4)
        >>> numbers = torch.tensor([[0, 1, 1]])
        >>> found = JoinedTexts()(encoder, numbers, ["cat", "big dog"])
        >>> torch.equal(found.features, encoder(["cat big dog big dog"])), found.truncated
        (True, 0.0)
    """

    def __init__(
        self,
        *,
        separator: str = " ",
        order: Order = "nearest_first",
        combine: Combine = "tokens",
    ) -> None:
        if order not in ("nearest_first", "nearest_last", "frequent_first"):
            raise LongTailError(f"Unknown order={order!r}: choose 'nearest_first', 'nearest_last' or 'frequent_first'.")
        if combine not in ("tokens", "features"):
            raise LongTailError(f"Unknown combine={combine!r}: choose 'tokens' or 'features'.")
        super().__init__()
        self.separator = separator
        self.order: Order = order
        self.combine: Combine = combine
        # In one tuple, so that the encoder does not become a part of this module.
        self._cut: tuple[TextEncoder | None, Any, Sequence[str], TokenRows] = _NOTHING

    def forward(self, encoder: TextEncoder, numbers: Tensor, texts: Sequence[str]) -> Encoded:
        """Features of the texts of each query.

        Args:
            encoder: of the texts.
            numbers: `(queries, k)`, int64, on the CPU: which of the texts, those of the nearest item first; without
                any, it is the empty text that is encoded.
            texts: the different texts.
        """
        known, vocabulary, before, _ = self._cut
        if encoder is not known or encoder.vocabulary is not vocabulary or texts is not before:
            self._cut = encoder, encoder.vocabulary, texts, TokenRows(encoder.tokens(self.separator))
        if numbers.shape[1] == 0:
            nothing = torch.zeros(len(numbers), 1, dtype=torch.int64, device=encoder.device)
            return Encoded(encoder.encode(nothing, torch.zeros(len(numbers), dtype=torch.int64)), 0.0)
        if self.combine == "features":
            different, places = torch.unique(numbers, return_inverse=True)
            features, cut = self._encode(encoder, different[:, None])
            each = features.new_full(places.shape, 1 / places.shape[1])
            shares = features.new_zeros(len(places), len(different)).scatter_add_(1, places.to(each.device), each)
            return Encoded(shares @ features, float(cut[places].float().mean()))
        if self.order == "nearest_last":
            numbers = numbers.flip(1)
        elif self.order == "frequent_first":
            numbers = _frequent_first(numbers)
        features, cut = self._encode(encoder, numbers)
        return Encoded(features, float(cut.float().mean()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cut": _NOTHING}  # copies and other processes cut texts anew

    def extra_repr(self) -> str:
        return f"separator={self.separator!r}, order={self.order!r}, combine={self.combine!r}"

    def _encode(self, encoder: TextEncoder, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Features of each row's texts in one, and where they were cut off."""
        *_, texts, rows = self._cut
        places = rows.places_of(numbers, lambda number: encoder.tokens(texts[number]))
        tokens, lengths = rows.joined(places)
        limit = encoder.max_tokens or tokens.shape[1]
        kept = lengths.clamp(max=limit)
        shown = tokens[:, : max(1, int(kept.max()) if len(kept) else 0)]
        return encoder.encode(shown.to(encoder.device), kept), lengths > limit


class TokenRows:
    """The tokens of texts, one after the other; each text is cut once. The separator's are the first.

    Args:
        separator: tokens between two texts.

    Examples:
        >>> rows = TokenRows([5])
        >>> places = rows.places_of(torch.tensor([[0, 1], [1, 1]]), lambda number: [[7], [8, 9]][number])
        >>> rows.joined(places)[0].tolist()
        [[7, 5, 8, 9, 0], [8, 9, 5, 8, 9]]
    """

    def __init__(self, separator: Sequence[int] = ()) -> None:
        self._place_of: dict[int, int] = {}
        self._tokens = torch.tensor(list(separator), dtype=torch.int64)
        self._starts = torch.tensor([0, len(separator)])

    def places_of(self, numbers: Tensor, cut: Callable[[int], list[int]]) -> Tensor:
        """Where the rows of some texts are; texts that are new are cut.

        Args:
            numbers: of the texts, any shape.
            cut: from the number of a text to its tokens.
        """
        different, inverse = torch.unique(numbers, return_inverse=True)
        tokens: list[int] = []
        ends: list[int] = []
        for number in different.tolist():
            if number not in self._place_of:
                self._place_of[number] = len(self._place_of) + 1
                tokens += cut(number)
                ends.append(len(self._tokens) + len(tokens))
        if ends:
            self._tokens = torch.cat([self._tokens, torch.tensor(tokens, dtype=torch.int64)])
            self._starts = torch.cat([self._starts, torch.tensor(ends)])
        return torch.tensor([self._place_of[number] for number in different.tolist()], dtype=torch.int64)[inverse]

    def joined(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens `(queries, longest)`, 0 behind the end of each row, and how many there are.

        Args:
            places: `(queries, k)`: which rows.
        """
        tokens, starts = self._tokens, self._starts
        if int(starts[1]):
            places = torch.stack([places, torch.zeros_like(places)], 2).flatten(1)[:, :-1]
        lengths = starts[places + 1] - starts[places]
        ends = lengths.cumsum(1)
        total = ends[:, -1]
        position = torch.arange(int(total.max()) if len(total) else 0).expand(len(places), -1).contiguous()
        piece = torch.searchsorted(ends, position, right=True).clamp(max=places.shape[1] - 1)
        offset = position - (ends - lengths).gather(1, piece)
        there = position < total[:, None]
        where = torch.where(there, starts[places].gather(1, piece) + offset, 0)
        return (tokens[where] * there if len(tokens) else torch.zeros_like(where)), total


_NOTHING = (None, None, (), TokenRows())


def _frequent_first(numbers: Tensor) -> Tensor:
    """The texts of each row, those that come most often first; of as many, those of the nearest item."""
    same = numbers[:, :, None] == numbers[:, None, :]
    first = same.int().argmax(2)
    return numbers.gather(1, (first - same.sum(2) * numbers.shape[1]).argsort(dim=1, stable=True))
