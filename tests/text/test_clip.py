"""CLIP's text tower as a text encoder."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.modules._description import require_plausible_size
from longtail_lightning.text.clip import CLIPText
from tests.text.models import SMALL, TEXTS, clip_tokens, clip_values, save_clip, word_pieces


@pytest.fixture(scope="module", autouse=True)
def no_network():
    """A mistake must not wait for the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    return path, *save_clip(path)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A config and a tokenizer."""
    tokenizer = clip_tokens(tmp_path_factory.mktemp("tokens"))
    return {"model_type": "clip_text_model", **clip_values(tokenizer)}, tokenizer.backend_tokenizer.to_str()


LONG = ["a photo of a lion & owls " * 20, *TEXTS, "<|endoftext|> owl"]


@pytest.mark.parametrize("end", [None, 2], ids=["the end token's number", "2, of old configs"])
@pytest.mark.parametrize("limit", [76, 77, 5])
@torch.no_grad()
def test_features_are_those_of_transformers(tmp_path, end, limit):
    tokenizer, model = save_clip(tmp_path, **({} if end is None else {"eos_token_id": end}))
    encoder = CLIPText(tmp_path, max_tokens=limit).eval()
    batch = tokenizer(LONG, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    expected = model(**batch).text_embeds
    features = encoder(LONG)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert features.shape == (len(LONG), encoder.num_features) == (len(LONG), 12)
    assert features.dtype == torch.float32
    torch.testing.assert_close(torch.cat([encoder([text]) for text in LONG]), features, atol=1e-5, rtol=1e-5)
    assert encoder.max_tokens == limit - 2
    assert encoder([]).shape == (0, 12)


@torch.no_grad()
def test_the_text_side_of_a_whole_model(tmp_path):
    tokenizer, model = save_clip(tmp_path, whole=True)
    encoder = CLIPText(tmp_path).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    hidden = model.text_model(**batch).pooler_output
    torch.testing.assert_close(encoder(TEXTS), model.text_projection(hidden), atol=1e-5, rtol=1e-5)
    assert encoder.num_features == 12
    assert not [name for name, _ in encoder.named_parameters() if "vision" in name or "visual" in name]
    again = build(spec_of(encoder)).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(TEXTS), encoder(TEXTS))


def test_a_checkpoint_needs_no_files(tmp_path):
    save_clip(tmp_path / "model")
    encoder = CLIPText(tmp_path / "model", max_tokens=20, trainable=False)
    spec = spec_of(encoder)
    torch.save({"spec": spec, "weights": encoder.state_dict()}, file := io.BytesIO())
    shutil.rmtree(tmp_path / "model")
    held = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    require_plausible_size("text_encoder", held["spec"], None, held["weights"])
    again = build(held["spec"])
    again.load_state_dict(held["weights"])
    assert torch.equal(again(LONG), encoder(LONG))
    assert spec_of(again) == spec == json.loads(json.dumps(spec))
    assert (spec["init_args"]["name"], spec["init_args"]["max_tokens"], again.max_tokens) == (None, 20, 18)


def test_a_config_that_fills_the_memory(parts):
    config, tokenizer = parts
    encoder = CLIPText(config=config, tokenizer=tokenizer)
    spec = spec_of(encoder)
    spec["init_args"]["config"]["intermediate_size"] = 5_000_000
    with pytest.raises(LongTailError, match="made to fill the memory"):
        require_plausible_size("text_encoder", spec, None, encoder.state_dict())


def test_half_precision_loads_as_float32(tmp_path):
    _, model = save_clip(tmp_path, whole=True, dtype=torch.float16)
    encoder = CLIPText(tmp_path)
    assert {tensor.dtype for tensor in encoder.state_dict().values()} == {torch.float32}
    assert torch.equal(encoder.network.text_projection.weight, model.text_projection.weight.float())


def test_gradients_reach_all_weights(saved):
    encoder = CLIPText(saved[0])
    encoder(LONG).square().sum().backward()
    assert not [name for name, parameter in encoder.named_parameters() if parameter.grad is None]


def test_frozen(saved):
    encoder = CLIPText(saved[0], trainable=False)
    assert not any(module.training for module in encoder.train().modules())
    assert not encoder(TEXTS).requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@torch.no_grad()
def test_autocast(saved):
    encoder = CLIPText(saved[0]).eval()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(TEXTS)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.float() - encoder(TEXTS)).norm() / encoder(TEXTS).norm()) < 0.05


def test_weights_that_are_missing(tmp_path, saved):
    from transformers import CLIPTextModel

    path, tokenizer, _ = saved
    tower = CLIPTextModel.from_pretrained(path)
    tower.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(LongTailError, match=r"has no weights for .*text_projection\.weight.* of a CLIPTextModelWith"):
        CLIPText(tmp_path)


@pytest.mark.parametrize("limit", [0, 2, None, 7.5, 78, 10**9])
def test_wrong_limits(saved, limit):
    with pytest.raises(LongTailError, match=r"give 77 at most|whole number of at least 3"):
        CLIPText(saved[0], max_tokens=limit)


def test_other_models(parts, tmp_path):
    with pytest.raises(LongTailError, match="use HuggingFaceText for others"):
        CLIPText(config={"model_type": "bert", **SMALL}, tokenizer=parts[1])
    with pytest.raises(LongTailError, match="There is no folder"):
        CLIPText(tmp_path / "none")


def test_another_tokenizer(parts):
    for tokenizer in (word_pieces().backend_tokenizer.to_str(), _without_end(parts[1])):
        with pytest.raises(LongTailError, match=r"the model looks for \d+ \(eos_token_id\)"):
            CLIPText(config=parts[0], tokenizer=tokenizer)


def _without_end(text):
    return json.dumps({**json.loads(text), "post_processor": None})


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "evil.Evil"}},
        {"hidden_size": 7},
        {"projection_dim": None},
        {"num_hidden_layers": 10**8},
    ],
    ids=["code", "heads", "projection", "layers"],
)
def test_a_damaged_config(parts, change, device):
    config, tokenizer = parts
    with pytest.raises(LongTailError), torch.device(device):
        CLIPText(config={**config, **change}, tokenizer=tokenizer)
