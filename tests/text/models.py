"""Small language models with tokenizers that are trained on a few words, in folders as transformers writes them."""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizerFast,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

WORDS = ["a photo of a snow owl", "big grey wolves", "cats and dogs", "the lion sleeps at night", "owls, wolves & cats"]
TEXTS = ["a photo of a cat", "owl", "the big grey wolf sleeps & the lion owls a photo of dogs at night", "", "Zebra?"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def word_pieces(begin="[CLS]", end="[SEP]", pad="[PAD]"):
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [begin, pad, end, "[UNK]", "[MASK]"]
    made.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(
        f"{begin} $A {end}", special_tokens=[(begin, 0), (end, made.token_to_id(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, cls_token=begin, sep_token=end, pad_token=pad, unk_token="[UNK]", mask_token="[MASK]"
    )


def byte_pairs():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    made.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def clip_tokens(folder):
    """CLIP's own tokenizer, whose two special tokens have the largest numbers."""
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, end_of_word_suffix="</w>")
    made.train_from_iterator((word for text in WORDS for word in text.split()), trainer)
    made.add_tokens([f"{letter}</w>" for letter in alphabet if made.token_to_id(f"{letter}</w>") is None])
    vocabulary = made.get_vocab()
    size = len(vocabulary)
    vocabulary.update({"<|startoftext|>": size, "<|endoftext|>": size + 1})
    folder.mkdir(exist_ok=True)
    made.model.save(str(folder))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return CLIPTokenizerFast.from_pretrained(folder)


def save(folder, tokenizer, kind, dtype=torch.float32, **values):
    """A model of a type with random weights in a folder, and the model."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](vocab_size=len(tokenizer), **values)
    model = AutoModel.from_config(config).to(dtype).eval()
    for name, parameter in model.named_parameters():  # those that start as zeros hide mistakes
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def clip_values(tokenizer, **changed):
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return {
        **SMALL,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "projection_dim": 12,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        **changed,
    }


def save_clip(folder, *, whole=False, dtype=torch.float32, **changed):
    """A CLIP text tower, or a whole CLIP model, in a folder; the tokenizer and the tower."""
    torch.manual_seed(0)
    tokenizer = clip_tokens(folder)
    values = clip_values(tokenizer, **changed)
    if whole:
        vision = {**SMALL, "image_size": 8, "patch_size": 4}
        config = CLIPConfig(text_config={**values, "projection_dim": 99}, vision_config=vision, projection_dim=12)
        model = CLIPModel(config)
    else:
        model = CLIPTextModelWithProjection(CLIPTextConfig(**values))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = model.to(dtype).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer, model


def tiny_encoder(cls, folder):
    """A small encoder of any class, from a folder where it needs one."""
    if cls.__name__ == "CLIPText":
        save_clip(folder / "model")
        return cls(folder / "model")
    if cls.__name__ == "HuggingFaceText":
        save(folder / "model", word_pieces(), "bert", **SMALL, pad_token_id=1)
        return cls(folder / "model")
    return cls()
