"""The text tower of CLIP as a text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning.text import _pretrained as pretrained
from longtail_lightning.text._transformer import TransformerText


class CLIPText(TransformerText):
    r"""The text tower of CLIP with its projection into the space that texts share with images.

    **What it takes.** A whole CLIP model, of which the text side is read, or a text tower with its projection. The
    weights are float32, whatever the file has. A checkpoint holds the config and the tokenizer in plain values and
    needs neither the hub nor the files again.

    **Shapes.** a list of texts; features `(texts, num_features)`: the projection of the state of the end token, not
    normalized, as transformers' `CLIPTextModelWithProjection` gives it.

    **When it helps, when it hurts.** It knows what things look like, which no language model has been told, and is the
    encoder of the paper's best results. It reads 77 tokens at most, some 50 words: of many long texts joined to one,
    most are cut off.

    Args:
        name: a folder with a CLIP model and its tokenizer, or the name of a model on the hub, such as
            `"openai/clip-vit-base-patch32"`.
        config: plain values of a config of `model_type` `"clip_text_model"` or `"clip"`, in place of a name: the
            weights are then random.
        tokenizer: JSON text of a fast tokenizer (`tokenizer.json`), in place of a name.
        max_tokens: how many tokens are encoded, with those for begin and end; 76 in the paper.
        trainable: False freezes the weights: no gradient and no dropout.

    Examples:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers, processors
        >>> tokenizer = Tokenizer(models.WordLevel({"<": 0, ">": 1, "cat": 2, "big": 3}, unk_token=">"))
        >>> tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> tokenizer.post_processor = processors.TemplateProcessing("< $A >", special_tokens=[("<", 0), (">", 1)])
        >>> encoder = CLIPText(
        ...     config={"model_type": "clip_text_model", "vocab_size": 4, "hidden_size": 8, "projection_dim": 6,
        ...             "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "eos_token_id": 1},
        ...     tokenizer=tokenizer.to_str())
        >>> encoder(["big cat", "cat"]).shape
        torch.Size([2, 6])

    **Paper.** Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021; Long et
    al., Retrieval Augmented Classification, CVPR 2022, which truncates to 76 tokens.
    """

    def __init__(
        self,
        name: str | Path | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        max_tokens: int = 76,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, config, tokenizer, max_tokens=max_tokens, trainable=trainable)

    def _settings(self, config: Any) -> Any:
        kind = config.model_type
        if kind == "clip":
            text = config.text_config
            text.projection_dim = config.projection_dim  # the tower's own is not used in a whole model
            return text
        if kind != "clip_text_model":
            raise LongTailError(
                f"CLIPText reads CLIP models, and this is a {kind} model: use HuggingFaceText for others."
            )
        return config

    def _network(self, place: str | None, config: Any) -> Any:
        from transformers import CLIPTextModelWithProjection as Tower

        # transformers looks for the end token by the number in the config; 2 stands for the largest of a row.
        end = self._tokenizer.end
        if len(end) != 1 or config.eos_token_id not in (2, end[0]):
            raise LongTailError(
                f"The tokenizer ends a text with {end} and the model looks for {config.eos_token_id} (eos_token_id): "
                "give the tokenizer that belongs to the model."
            )
        if place is None:
            network = pretrained.new_network(lambda: Tower(config), config.model_type)
        else:
            network = pretrained.read_network(Tower, place, config)
        self.num_features = int(config.projection_dim)
        return network

    @property
    def _padding(self) -> int:
        """The end token: the first one of a row is looked for, and more of them behind it change nothing."""
        return self._tokenizer.end[0]

    def _limit(self, max_tokens: int | None) -> int | None:
        require_whole(self, "max_tokens", max_tokens, self._around + 1)
        if self._positions is not None and max_tokens is not None and max_tokens > self._positions:
            raise LongTailError(
                f"max_tokens={max_tokens} are too many: the model has {self._positions} positions: give "
                f"{self._positions} at most."
            )
        return super()._limit(None if max_tokens is None else max_tokens - self._around)

    def _features(self, ids: Tensor, there: Tensor, lengths: Tensor) -> Tensor:
        features: Tensor = self.network(input_ids=ids, attention_mask=there.long()).text_embeds
        return features
