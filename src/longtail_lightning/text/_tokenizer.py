"""A tokenizer of the tokenizers library, kept as its JSON text."""

from __future__ import annotations

import itertools
from typing import Any

from longtail_lightning._errors import LongTailError


class FastTokenizer:
    """Cuts texts into tokens, and knows which tokens stand around each text.

    Args:
        json: what `tokenizers.Tokenizer.to_str` writes.

    Examples:
        >>> from tokenizers import Tokenizer, models, processors
        >>> made = Tokenizer(models.WordLevel({"?": 0, "<s>": 1, "</s>": 2, "cat": 3}, unk_token="?"))
        >>> made.post_processor = processors.TemplateProcessing(
        ...     "<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
        >>> tokenizer = FastTokenizer(made.to_str())
        >>> tokenizer.begin, tokenizer.tokens("cat"), tokenizer.end
        ([1], [3], [2])
    """

    def __init__(self, json: str) -> None:
        self._tokenizer = _parsed(json)
        self.begin, self.end = self._around()

    def tokens(self, text: str) -> list[int]:
        """All tokens of a text, without those around it."""
        return self._cut(text, special=False)

    def _around(self) -> tuple[list[int], list[int]]:
        words = itertools.islice(sorted(self._tokenizer.get_vocab()), 100)
        probe = " ".join(["a", "b", "1", *words])
        inside, whole = self._cut(probe, special=False), self._cut(probe, special=True)
        if inside:
            for start in range(len(whole) - len(inside) + 1):
                if whole[start : start + len(inside)] == inside:
                    return whole[:start], whole[start + len(inside) :]
        raise LongTailError(
            "The tokenizer does not cut a text into tokens with others before and behind them: give the tokenizer of "
            "another model."
        )

    def _cut(self, text: str, *, special: bool) -> list[int]:
        # Rust knows no halves of a character.
        ids: list[int] = self._tokenizer.encode(
            text.encode("utf-8", "replace").decode(), add_special_tokens=special
        ).ids
        return ids


def _parsed(json: str) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(json)
    except BaseException as error:
        # A panic of Rust, which some damaged texts lead to, is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise LongTailError(
            f"This is no tokenizer ({str(error).strip()[:200]}): give the text of a tokenizer.json, or the name of a "
            "model."
        ) from error
    # Cutting off and filling up are done here, for all encoders alike.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
