"""Any language model of the transformers library as a text encoder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.text import _pretrained as pretrained
from longtail_lightning.text._transformer import TransformerText

Pooling = Literal["mean", "first", "last"]


class HuggingFaceText(TransformerText):
    r"""A language model of the transformers library: the features are a pool of its last hidden states.

    **What it takes.** BERT, RoBERTa, GPT-2, the encoder of T5 and their like, with a fast tokenizer. The weights are
    float32, whatever the file has. A checkpoint holds the config and the tokenizer in plain values and needs neither
    the hub nor the files again. Models that bring code of their own are refused.

    **Shapes.** a list of texts; features `(texts, num_features)`, where `num_features` is the model's hidden size. A
    text without a token gives zeros when `pooling` is `"mean"`.

    **When it helps, when it hurts.** Sentence encoders are trained for `"mean"`; BERT as it is published is trained for
    neither pooling and wants fine-tuning; a GPT sees the whole text only at its `"last"` token. Training the weights
    takes several times the memory of `trainable=False`.

    Args:
        name: a folder with a model and its tokenizer, or the name of a model on the hub.
        config: plain values of a config with its `model_type`, in place of a name: the weights are then random.
        tokenizer: JSON text of a fast tokenizer (`tokenizer.json`), in place of a name.
        pooling: `"mean"` of the text's tokens, the state of the `"first"` token, or of the `"last"` one; the tokens
            that the tokenizer puts around a text count for these two, such as BERT's `[CLS]`.
        max_tokens: how many tokens of a text are encoded; None for as many as the model has positions.
        trainable: False freezes the weights: no gradient and no dropout.

    Examples:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> tokenizer = Tokenizer(models.WordLevel({"?": 0, "cat": 1, "big": 2}, unk_token="?"))
        >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> encoder = HuggingFaceText(
        ...     config={"model_type": "bert", "vocab_size": 3, "hidden_size": 8, "num_hidden_layers": 1,
        ...             "num_attention_heads": 2, "intermediate_size": 16},
        ...     tokenizer=tokenizer.to_str())
        >>> encoder(["big cat", "cat"]).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        name: str | Path | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        pooling: Pooling = "mean",
        max_tokens: int | None = None,
        trainable: bool = True,
    ) -> None:
        if pooling not in ("mean", "first", "last"):
            raise LongTailError(f"Unknown pooling={pooling!r}: choose 'mean', 'first' or 'last'.")
        super().__init__(name, config, tokenizer, max_tokens=max_tokens, trainable=trainable)
        self.pooling: Pooling = pooling

    def _settings(self, config: Any) -> Any:
        pretrained.require_language_model(config, type(self).__name__)
        return config

    def _network(self, place: str | None, config: Any) -> Any:
        import transformers

        kind = config.model_type
        auto: Any = transformers.AutoModel
        network: Any
        if place is None:
            network = pretrained.new_network(lambda: auto.from_config(config, trust_remote_code=False), kind)
        else:
            network = pretrained.read_network(auto, place, config)
        if "add_pooling_layer" in inspect.signature(type(network).__init__).parameters:
            network.pooler = None  # weights without a gradient, over which training on several GPUs stumbles
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        taken = inspect.signature(network.forward).parameters
        if not {"input_ids", "attention_mask"} <= set(taken):
            raise LongTailError(
                f"A {kind} model has no attention mask, so that the texts of a batch would change each other: give "
                "another model."
            )
        self.num_features = int(config.hidden_size)
        return network

    def _features(self, ids: Tensor, there: Tensor, lengths: Tensor) -> Tensor:
        hidden: Tensor = self.network(input_ids=ids, attention_mask=there.long()).last_hidden_state
        if self.pooling == "first":
            return hidden[:, 0]
        if self.pooling == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), there.sum(1) - 1]
        start = len(self._tokenizer.begin)
        place = torch.arange(hidden.shape[1], device=hidden.device)
        outside = (place < start) | (place >= start + lengths[:, None])
        # A sum of many states in half precision would be off.
        total = hidden.masked_fill(outside[..., None], 0).sum(1, dtype=torch.promote_types(hidden.dtype, torch.float32))
        return (total / lengths.clamp(min=1)[:, None]).to(hidden.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, pooling={self.pooling!r}"
