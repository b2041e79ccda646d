"""What holds for every text encoder, found by discovery."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.text import TextEncoder
from tests.contracts.discover import public_classes
from tests.text.models import tiny_encoder

ENCODERS = [cls for cls in public_classes("text") if issubclass(cls, TextEncoder)]
each_encoder = pytest.mark.parametrize("cls", ENCODERS, ids=lambda cls: cls.__name__)
TEXTS = ["cat", "a big dog", "", "cat dog cat dog owl"]


@each_encoder
def test_gives_features_of_the_promised_width(cls, tmp_path):
    encoder = tiny_encoder(cls, tmp_path).eval()
    assert encoder(TEXTS).shape == (4, encoder.num_features)
    assert encoder([]).shape == (0, encoder.num_features)
    assert bool(encoder(TEXTS).isfinite().all())


@each_encoder
def test_a_text_does_not_depend_on_those_beside_it(cls, tmp_path):
    encoder = tiny_encoder(cls, tmp_path).eval()
    together = encoder(TEXTS)
    for text, features in zip(TEXTS, together):
        torch.testing.assert_close(encoder([text])[0], features, atol=1e-5, rtol=1e-4)


@each_encoder
def test_survives_pickle_deepcopy_spec_and_state_dict(cls, tmp_path):
    encoder = tiny_encoder(cls, tmp_path).eval()
    expected = encoder(TEXTS)
    rebuilt = build(spec_of(encoder)).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder), rebuilt):
        torch.testing.assert_close(twin(TEXTS), expected)


@each_encoder
def test_bf16_autocast_is_close_to_float32(cls, tmp_path):
    encoder = tiny_encoder(cls, tmp_path).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = encoder(TEXTS)
    torch.testing.assert_close(low.float(), encoder(TEXTS), atol=0.1, rtol=0.1)


@each_encoder
def test_a_single_text_is_refused(cls, tmp_path):
    with pytest.raises(LongTailError, match="takes a list of texts"):
        tiny_encoder(cls, tmp_path)("cat")
