"""What the text encoders made of a transformer share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning.text import _pretrained as pretrained
from longtail_lightning.text._base import TextEncoder
from longtail_lightning.text._tokenizer import FastTokenizer


class TransformerText(TextEncoder):
    """Base of the encoders whose network and tokenizer are those of a Hugging Face model.

    The config and the tokenizer are plain values that a checkpoint holds: with its weights they are the whole encoder,
    and neither the name nor the files are needed again. A child says which part of a model it takes, how it is built,
    and what its features are.

    Args:
        name: a folder, or a name of the hub.
        config: plain values of a config, for random weights.
        tokenizer: JSON text of a fast tokenizer.
        max_tokens: the argument of the child.
        trainable: whether the weights learn.
    """

    start_only: ClassVar[Mapping[str, Any]] = {"name": None}

    def __init__(
        self,
        name: str | Path | None,
        config: Mapping[str, Any] | None,
        tokenizer: str | None,
        *,
        max_tokens: int | None,
        trainable: bool,
    ) -> None:
        super().__init__()
        called = type(self).__name__
        given = (config is not None) + (tokenizer is not None)
        if given != (2 if name is None else 0):
            raise LongTailError(f"{called} needs a name, or a config and a tokenizer together: give one or the other.")
        if tokenizer is not None and not isinstance(tokenizer, str):
            raise LongTailError(f"{called} takes the JSON text of a fast tokenizer, got {tokenizer!r:.60}.")
        self.name, self.trainable = name, trainable
        place = None if name is None else pretrained.local_or_hub(name)
        settings = self._settings(
            pretrained.config_from(config or {}) if place is None else pretrained.read_config(place)
        )
        if hasattr(settings, "use_cache"):
            settings.use_cache = False  # for writing texts, which takes memory
        self.config = pretrained.plain_config(settings.to_dict())
        if place is not None:  # without what the file holds besides
            settings = pretrained.config_from(self.config)
        self.tokenizer = pretrained.read_tokenizer(place or "") if tokenizer is None else tokenizer
        self._tokenizer = FastTokenizer(self.tokenizer)
        self.network = self._network(place, settings)
        self._vocabulary = int(self.network.get_input_embeddings().weight.shape[0])
        self._require_known([*self._tokenizer.begin, *self._tokenizer.end])
        self._argument = max_tokens
        self._positions = _positions(self.network, settings)
        self.max_tokens = self._limit(max_tokens)
        if not trainable:
            self.network.requires_grad_(False)
        self.train()  # as any other new module; transformers gives networks in eval mode

    def _settings(self, config: Any) -> Any:
        """The config of the part that reads texts; refuses a model that has none."""
        return config

    @abstractmethod
    def _network(self, place: str | None, config: Any) -> Any:
        """The network, with the weights that are in `place`."""

    @abstractmethod
    def _features(self, ids: Tensor, there: Tensor, lengths: Tensor) -> Tensor:
        """Features of rows of tokens that are complete; `lengths` are those of the texts alone."""

    def spec_args(self) -> dict[str, Any]:
        """The limit that was asked for: `max_tokens` is the one that it leads to."""
        return {"max_tokens": self._argument}

    @property
    def _padding(self) -> int:
        """The token behind the end of a row: the model's, which RoBERTa knows it by."""
        token = self.config.get("pad_token_id")
        return token if isinstance(token, int) and 0 <= token < self._vocabulary else 0

    @property
    def _around(self) -> int:
        """How many tokens stand around each text."""
        return len(self._tokenizer.begin) + len(self._tokenizer.end)

    def _limit(self, max_tokens: int | None) -> int | None:
        """How many tokens of a text fit between the tokenizer's own."""
        room = None if self._positions is None else self._positions - self._around
        if max_tokens is not None:
            require_whole(self, "max_tokens", max_tokens, 1)
        if room is not None and room < (max_tokens or 1):
            raise LongTailError(
                f"max_tokens={max_tokens} are too many: the model has {self._positions} positions, and {self._around} "
                f"of them are for the tokens around a text: give {room} at most."
                if room > 0
                else f"The model has {self._positions} positions, which are no room for a text: give another model."
            )
        return room if max_tokens is None else max_tokens

    def tokens(self, text: str) -> list[int]:
        found = self._tokenizer.tokens(text)
        self._require_known(found)
        return found

    def encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        if not len(tokens):
            return torch.zeros(0, self.num_features, device=tokens.device)
        ids, there, lengths = self._rows(tokens, lengths.to(tokens.device))
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            return self._features(ids, there, lengths)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; one that does not learn has no dropout either."""
        return super().train(mode and self.trainable)

    def extra_repr(self) -> str:
        return f"model_type={self.config['model_type']}, max_tokens={self._argument}, trainable={self.trainable}"

    def _rows(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each row between the tokenizer's own tokens, where there are tokens, and the lengths."""
        begin, end = (tokens.new_tensor(ids) for ids in (self._tokenizer.begin, self._tokenizer.end))
        width = tokens.shape[1]
        ids = tokens.new_full((len(tokens), width + self._around), self._padding)
        ids[:, : len(begin)] = begin
        inside = torch.arange(width, device=tokens.device) < lengths[:, None]
        ids[:, len(begin) : len(begin) + width] = torch.where(inside, tokens, self._padding)
        behind = len(begin) + lengths[:, None] + torch.arange(len(end), device=tokens.device)
        ids.scatter_(1, behind, end.expand(len(tokens), -1))
        # Attention over nothing is NaN: a row without tokens sees the first one of the padding.
        total = (lengths + self._around).clamp(min=1)
        return ids, torch.arange(ids.shape[1], device=ids.device) < total[:, None], lengths

    def _require_known(self, ids: list[int]) -> None:
        if ids and max(ids) >= self._vocabulary:
            raise LongTailError(
                f"The tokenizer gives token {max(ids)} and the model knows {self._vocabulary}: give the tokenizer that "
                "belongs to the model."
            )


def _positions(network: nn.Module, config: Any) -> int | None:
    """How many tokens a row may have; None where nothing limits them."""
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    for name, module in network.named_modules():
        # RoBERTa and its like count the positions from behind that of the padding.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return limit
