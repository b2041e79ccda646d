"""What is read of a Hugging Face model: its config as plain values, its tokenizer and its weights.

A config may come from a checkpoint of a stranger: it names a model of transformers by its type, and no code, no file
and no place in the net is taken from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import NotPlainError, plain

Read = TypeVar("Read")

# Code of others, or weights that are no plain numbers.
_REFUSED = ("auto_map", "custom_pipelines", "quantization_config")
# These change no features of texts, and some of them make transformers load things.
_DROPPED = {
    *("attn_implementation", "experts_implementation", "dtype", "torch_dtype", "name_or_path", "transformers_version"),
    *("id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "torchscript"),
    *("output_attentions", "output_hidden_states", "return_dict", "use_return_dict"),
}
_LARGEST = 10_000_000
_MOST_LAYERS = 1_000
_COUNTS_LAYERS = re.compile(r"(layer|block|expert|group)s?$")
_OTHER_SENSES = ("vision_config", "audio_config")


def plain_config(values: Any) -> dict[str, Any]:
    """A config's plain values that say how a model is built; what would run code is refused.

    Args:
        values: of a config, with its `model_type`.

    Examples:
        >>> plain_config({"model_type": "bert", "hidden_size": 32, "dtype": "float16"})
        {'model_type': 'bert', 'hidden_size': 32}
    """
    try:
        values = plain(values)
    except (NotPlainError, RecursionError) as error:
        raise LongTailError(f"A config has plain values only, got {str(error)[:60]}: give config.to_dict().") from error
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise LongTailError(
            f'A config is a dict with a model_type, such as {{"model_type": "bert"}}, got {values!r:.60}.'
        )
    return _cleaned(values)


def _cleaned(values: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if key in _REFUSED and value:
            what = "is quantized" if key == "quantization_config" else "asks for code of its own"
            raise LongTailError(
                f"The config {what} ({key}): give a model that transformers has itself, in plain weights."
            )
        if key in _DROPPED or key in _REFUSED or key.startswith("_"):
            continue
        too_many = type(value) is int and _COUNTS_LAYERS.search(key) and value > _MOST_LAYERS
        if too_many or (type(value) is int and abs(value) > _LARGEST and "theta" not in key):
            raise LongTailError(f"The config has {key}={value}, more than any model has: it is damaged.")
        if isinstance(value, list):
            value = [_cleaned(item) if isinstance(item, dict) else item for item in value]
        kept[key] = _cleaned(value) if isinstance(value, dict) else value
    return kept


def config_from(values: Mapping[str, Any]) -> Any:
    """The config of transformers that plain values describe.

    Args:
        values: with the `model_type`.
    """
    from transformers import CONFIG_MAPPING

    values = plain_config(values)
    kind = values.pop("model_type")
    if kind not in CONFIG_MAPPING:
        raise LongTailError(f"transformers has no model of the type {kind!r:.60}: give another config, or update it.")
    cls: Any = CONFIG_MAPPING[kind]
    if hidden := [key for key in values if callable(getattr(cls, key, None))]:
        raise LongTailError(f"The config has a value in place of the method {hidden[0]}: it is damaged.")
    with _one_sentence(f"A {kind} config of these values is refused by transformers"):
        return cls(**values)


def require_language_model(config: Any, called: str) -> None:
    """Refuse a config of a model that does not read texts alone.

    Args:
        config: of transformers.
        called: the encoder that needs it.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL
    from transformers import MODEL_FOR_MASKED_LM_MAPPING as MASKED
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING as ENCODING
    from transformers import MODEL_MAPPING

    kind = config.model_type
    if kind.startswith("clip"):
        raise LongTailError(f"{called} reads no {kind} model: use CLIPText, which reads the text side of a CLIP model.")
    if any(getattr(config, name, None) is not None for name in _OTHER_SENSES) or "siglip" in kind:
        raise LongTailError(
            f"{called} reads models of texts alone, and {kind} is one of several senses: use CLIPText with a CLIP "
            "model, or give a language model."
        )
    known = type(config) in MODEL_MAPPING and any(type(config) in table for table in (CAUSAL, MASKED, ENCODING))
    if not known:
        raise LongTailError(f"{called} reads language models, and {kind} is none: give one such as BERT or GPT-2.")


def local_or_hub(name: str | Path) -> str:
    """The folder of that name if there is one; otherwise what may be a name of the hub.

    Args:
        name: a folder, or a name of the hub.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if isinstance(name, Path) or str(name).startswith(("/", ".", "~")) or str(name).count("/") > 1 or "\\" in str(name):
        raise LongTailError(f"There is no folder {str(name)!r}: give the folder that a model and its tokenizer are in.")
    return name


def read_config(name: str) -> Any:
    """The config of a model.

    Args:
        name: a folder, or a name of the hub.
    """
    from transformers import AutoConfig

    config: Any = _read(name, lambda: AutoConfig.from_pretrained(name, trust_remote_code=False))
    for key in ("auto_map", "custom_pipelines"):  # transformers has a model of this type itself
        config.__dict__.pop(key, None)
    return config


def read_tokenizer(name: str) -> str:
    """The tokenizer of a model as JSON text.

    Args:
        name: a folder, or a name of the hub.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = _read(name, lambda: AutoTokenizer.from_pretrained(name, trust_remote_code=False))
    if not getattr(tokenizer, "is_fast", False) or not hasattr(tokenizer, "backend_tokenizer"):
        raise LongTailError(
            f"The tokenizer of {name!r} ({type(tokenizer).__name__}) is a slow one, which no checkpoint can hold: give "
            "a model with a tokenizer.json."
        )
    return str(tokenizer.backend_tokenizer.to_str())


def read_network(cls: Any, name: str, config: Any) -> nn.Module:
    """A model with its weights, all of which have to be there, in float32.

    Args:
        cls: class of transformers that reads it.
        name: a folder, or a name of the hub.
        config: of the model.
    """
    config.dtype = torch.float32  # transformers would keep the half precision of a file
    network, told = _read(
        name, lambda: cls.from_pretrained(name, config=config, trust_remote_code=False, output_loading_info=True)
    )
    # The pooler of BERT and its like is not used.
    lost = [key for key in sorted(told["missing_keys"]) if not key.startswith("pooler.")]
    lost += [str(key[0] if isinstance(key, tuple) else key) for key in sorted(told["mismatched_keys"])]
    if lost:
        raise LongTailError(
            f"{name!r} has no weights for {lost[0]}{f' and {len(lost) - 1} others' if lost[1:] else ''} of a "
            f"{type(network).__name__}: give the folder of a whole model."
        )
    module: nn.Module = network.float()
    return module


def _read(name: str, reading: Callable[[], Read]) -> Read:
    """Read something, or say in one sentence why it cannot be read."""
    try:
        with _quiet():
            return reading()
    except OSError as error:
        tried = "" if Path(name).is_dir() else ", neither from this machine nor from the hub"
        raise LongTailError(
            f"{name!r} cannot be read{tried} ({_first_line(error)}): give a local folder with a model and its "
            "tokenizer, or fetch the model once where there is a network; transformers then finds it with "
            "local_files_only."
        ) from error
    except Exception as error:
        raise LongTailError(
            f"{name!r} cannot be read as a model of transformers ({_first_line(error)}): give the folder or the name "
            "of another one; models with code of their own are not run."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the report of transformers on weights that are not used, such as those of the images' side."""
    from transformers.utils import logging as written

    logging: Any = written
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _one_sentence(begin: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise LongTailError(f"{begin} ({_first_line(error)}): give the config of a model that works.") from error


def new_network(build: Callable[[], nn.Module], kind: str) -> nn.Module:
    """A model with random weights, or one sentence on why its config makes none.

    Args:
        build: makes it.
        kind: its type.
    """
    with _one_sentence(f"A {kind} model of this config cannot be built"):
        return build()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".:")
