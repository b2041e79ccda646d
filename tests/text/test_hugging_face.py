"""Language models of transformers as text encoders."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer

from longtail_lightning import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.modules._description import require_plausible_size
from longtail_lightning.text.hugging_face import HuggingFaceText
from tests.text.models import SMALL, TEXTS, byte_pairs, save, word_pieces

BERT = {"model_type": "bert", "vocab_size": 90, **SMALL}
ROBERTA = {**SMALL, "pad_token_id": 1, "max_position_embeddings": 40}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
KINDS = {
    "bert": (word_pieces, {**SMALL, "max_position_embeddings": 40}, 38),
    "roberta": (word_pieces, ROBERTA, 36),  # two positions belong to the padding
    "gpt2": (byte_pairs, {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}, 64),
    "t5": (word_pieces, T5, None),
}


@pytest.fixture(scope="module", autouse=True)
def no_network():
    """A mistake must not wait for the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def tokenizer():
    return word_pieces().backend_tokenizer.to_str()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bert")
    save(path, word_pieces(), "bert", **SMALL, max_position_embeddings=40)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@torch.no_grad()
def test_features_are_those_of_transformers(tmp_path, kind, pooling):
    make, values, room = KINDS[kind]
    tokenizer = make()
    model = save(tmp_path, tokenizer, kind, **values)
    model = model.get_encoder() if kind == "t5" else model
    encoder = HuggingFaceText(tmp_path, pooling=pooling).eval()
    assert encoder.max_tokens == room
    texts = [text for text in TEXTS if text]
    batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt", return_special_tokens_mask=True)
    there = batch.attention_mask.bool()
    hidden = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    content = there & ~batch.special_tokens_mask.bool() if kind != "gpt2" else there
    expected = {
        "mean": torch.stack([row[at].mean(0) for row, at in zip(hidden, content)]),
        "first": hidden[:, 0],
        "last": torch.stack([row[at][-1] for row, at in zip(hidden, there)]),
    }[pooling]
    features = encoder(texts)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert features.dtype == torch.float32
    assert features.shape == (len(texts), encoder.num_features)
    alone = torch.cat([encoder([text]) for text in TEXTS])
    torch.testing.assert_close(encoder(TEXTS), alone, atol=1e-5, rtol=1e-5)
    assert bool(alone.isfinite().all())
    assert encoder([]).shape == (0, encoder.num_features)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_checkpoint_needs_no_files(tmp_path, kind):
    make, values, _ = KINDS[kind]
    save(tmp_path / "model", make(), kind, **values)
    encoder = HuggingFaceText(tmp_path / "model", pooling="last", max_tokens=7, trainable=False)
    spec = spec_of(encoder)
    torch.save({"spec": spec, "weights": encoder.state_dict()}, file := io.BytesIO())
    shutil.rmtree(tmp_path / "model")
    held = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    require_plausible_size("text_encoder", held["spec"], None, held["weights"])
    again = build(held["spec"])
    again.load_state_dict(held["weights"])
    assert torch.equal(again(TEXTS), encoder(TEXTS))
    assert spec_of(again) == spec == json.loads(json.dumps(spec))
    assert spec["init_args"]["name"] is None
    assert (again.max_tokens, again.pooling, again.trainable) == (7, "last", False)


def test_the_limit_of_the_model_is_no_argument(folder):
    encoder = HuggingFaceText(folder)
    assert encoder.max_tokens == 38
    assert spec_of(encoder)["init_args"]["max_tokens"] is None


def test_half_precision_loads_as_float32(tmp_path):
    model = save(tmp_path, word_pieces(), "bert", dtype=torch.float16, **SMALL)
    encoder = HuggingFaceText(tmp_path)
    assert {tensor.dtype for tensor in encoder.state_dict().values()} == {torch.float32}
    weight = model.embeddings.word_embeddings.weight
    assert torch.equal(encoder.network.embeddings.word_embeddings.weight, weight.float())
    assert build(spec_of(encoder)).network.dtype == torch.float32


@torch.no_grad()
def test_long_texts_are_cut_off(folder):
    short = HuggingFaceText(folder, max_tokens=3).eval()
    whole = HuggingFaceText(folder).eval()
    torch.testing.assert_close(short(["cats and dogs sleeps at night"]), whole(["cats and dogs"]))
    torch.testing.assert_close(whole(["cats " * 60]), whole(["cats " * 38]))


def test_gradients_reach_all_weights(folder):
    for pooling in ("mean", "first", "last"):
        encoder = HuggingFaceText(folder, pooling=pooling)
        assert all(module.training for module in encoder.modules())
        encoder(TEXTS).square().sum().backward()
        assert not [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
        assert all(bool(parameter.grad.isfinite().all()) for parameter in encoder.parameters())


def test_frozen(folder):
    encoder = HuggingFaceText(folder, trainable=False)
    assert not any(module.training for module in encoder.train().modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(TEXTS).requires_grad
    assert torch.equal(encoder(TEXTS), encoder(TEXTS))
    assert any(module.training for module in HuggingFaceText(folder).eval().train().modules())


@torch.no_grad()
def test_autocast(folder):
    encoder = HuggingFaceText(folder).eval()
    seen = []
    encoder.network.encoder.layer[0].attention.self.query.register_forward_hook(
        lambda *call: seen.append(call[2].dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(TEXTS)
    assert seen == [torch.bfloat16]
    torch.testing.assert_close(rounded.float(), encoder(TEXTS), atol=0.05, rtol=0.05)


def test_an_unpaired_half_of_a_character(folder):
    assert bool(HuggingFaceText(folder)(["owl \ud83e"]).isfinite().all())


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c"])
def test_a_missing_folder(name):
    with pytest.raises(LongTailError, match=r"There is no folder .*: give the folder that a model"):
        HuggingFaceText(name)


def test_folders_and_names_that_hold_no_model(tmp_path, monkeypatch, folder):
    with pytest.raises(LongTailError, match=r"cannot be read.*give"):
        HuggingFaceText(tmp_path)
    shutil.copytree(folder, damaged := tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(LongTailError, match=r"cannot be read.*give"):
        HuggingFaceText(damaged)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", _unreachable)
    with pytest.raises(
        LongTailError, match=r"from the hub \(We couldn't connect\): give a local folder.*local_files_only"
    ):
        HuggingFaceText("someone/model")


def _unreachable(*_, **__):
    raise OSError("We couldn't connect.\nCheck your connection.")


def test_missing_weights(tmp_path, folder):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, path := tmp_path / "part")
    weights = load_file(path / "model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if "layer.1" not in key},
        path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(LongTailError, match=r"has no weights for encoder\.layer\.1.* others of a BertModel: give"):
        HuggingFaceText(path)
    kept = {key: value for key, value in weights.items() if "pooler" not in key}
    save_file(kept, path / "model.safetensors", {"format": "pt"})
    assert HuggingFaceText(path)(["owl"]).shape == (1, 16)


def test_a_slow_tokenizer(folder, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(LongTailError, match="is a slow one, which no checkpoint can hold"):
        HuggingFaceText(folder)


@pytest.mark.parametrize("kind", ["clip", "clip_text_model", "siglip", "siglip_text_model"])
def test_models_of_images_and_texts(kind, tokenizer):
    with pytest.raises(LongTailError, match="CLIPText"):
        HuggingFaceText(config={"model_type": kind}, tokenizer=tokenizer)


@pytest.mark.parametrize("kind", ["vit", "wav2vec2", "timm_wrapper", "encoder-decoder"])
def test_models_that_read_no_text(kind, tokenizer):
    with pytest.raises(LongTailError, match=r"reads language models|refused by transformers"):
        HuggingFaceText(config={"model_type": kind}, tokenizer=tokenizer)


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, 39, 10**9])
def test_wrong_limits(folder, limit):
    with pytest.raises(LongTailError, match=r"max_tokens.*(38 at most|whole number)|whole number .* as max_tokens"):
        HuggingFaceText(folder, max_tokens=limit)


def test_no_room_for_a_text(tokenizer):
    with pytest.raises(LongTailError, match="2 positions, which are no room for a text"):
        HuggingFaceText(config={**BERT, "max_position_embeddings": 2}, tokenizer=tokenizer)


def test_wrong_arguments(folder, tokenizer):
    for options in ({}, {"config": BERT}, {"tokenizer": tokenizer}, {"name": folder, "config": BERT}):
        with pytest.raises(LongTailError, match="needs a name, or a config and a tokenizer together"):
            HuggingFaceText(**options)
    with pytest.raises(LongTailError, match="choose 'mean', 'first' or 'last'"):
        HuggingFaceText(folder, pooling="max")
    with pytest.raises(LongTailError, match="takes the JSON text"):
        HuggingFaceText(config=BERT, tokenizer=word_pieces())


HOSTILE = {
    "code": {"auto_map": {"AutoModel": "evil--model.Evil"}},
    "nested code": {"sub": [{"auto_map": {"AutoConfig": "evil.Evil"}}]},
    "pipelines": {"custom_pipelines": {"x": {"impl": "evil.Evil"}}},
    "quantized": {"quantization_config": {"quant_method": "gptq"}},
    "unknown": {"model_type": "evil"},
    "no type": {"model_type": ["bert"]},
    "layers": {"num_hidden_layers": 10**8},
    "memory": {"vocab_size": 10**12},
    "heads": {"num_attention_heads": 7},
    "words": {"hidden_size": "16"},
    "activation": {"hidden_act": "os.system"},
    "object": {"hidden_act": print},
    "small": {"vocab_size": 5},
    "methods": {"to_dict": 3},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_damaged_config(change, device, tokenizer):
    def make():
        with torch.device(device):
            encoder = HuggingFaceText(config={**BERT, **change}, tokenizer=tokenizer)
        return encoder([" ".join(map(chr, range(97, 123)))])

    with pytest.raises(LongTailError) as raised:
        make()
    assert str(raised.value).count("\n") == 0


def test_kernels_of_others_are_not_loaded(tokenizer):
    loads = {"attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel", "dtype": "float16"}
    encoder = HuggingFaceText(config={**BERT, **loads, "_name_or_path": "evil/model"}, tokenizer=tokenizer)
    assert "evil" not in str(spec_of(encoder)["init_args"]["config"])
    assert "evil" not in str(encoder.network.config._attn_implementation)
    assert encoder(["owl"]).dtype == torch.float32


def test_code_in_a_folder_is_not_run(tmp_path, folder):
    shutil.copytree(folder, path := tmp_path / "own")
    values = json.loads((path / "config.json").read_text())
    (path / "evil.py").write_text("raise SystemExit('ran')")
    code = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (path / "config.json").write_text(json.dumps({**values, "auto_map": code}))
    encoder = HuggingFaceText(path, trainable=False)  # transformers has a BERT itself
    assert "auto_map" not in spec_of(encoder)["init_args"]["config"]
    assert torch.equal(encoder(TEXTS), HuggingFaceText(folder, trainable=False)(TEXTS))
    (path / "config.json").write_text(json.dumps({**values, "model_type": "evil", "auto_map": code}))
    with pytest.raises(LongTailError, match="models with code of their own are not run"):
        HuggingFaceText(path)


@pytest.mark.parametrize("text", ["", "{}", "null", '{"model": {"type": "evil"}}', "[" * 5000])
def test_a_damaged_tokenizer(text):
    with pytest.raises(LongTailError, match="This is no tokenizer"):
        HuggingFaceText(config=BERT, tokenizer=text)


def test_padding_and_truncation_of_the_tokenizer_are_not_used(folder):
    plain = HuggingFaceText(folder)
    made = Tokenizer.from_str(plain.tokenizer)
    made.enable_truncation(3)
    made.enable_padding(length=30)
    other = HuggingFaceText(config=plain.config, tokenizer=made.to_str())
    assert other.tokens(TEXTS[2]) == plain.tokens(TEXTS[2])
    assert other.max_tokens == 38


def test_a_tokenizer_of_another_model(tokenizer):
    with pytest.raises(LongTailError, match=r"gives token \d+ and the model knows 20"):
        HuggingFaceText(config={**BERT, "vocab_size": 20}, tokenizer=tokenizer)([TEXTS[2]])


def test_transformers_is_imported_when_it_is_needed():
    files = "longtail_lightning.text.hugging_face, longtail_lightning.text.clip"
    script = f"import sys, {files}; print({{'transformers', 'tokenizers'}} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told == "set()\n"
