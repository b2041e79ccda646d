"""The texts of a query's neighbors, as one text or as the mean of their features."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail_lightning import BagOfWords, JoinedTexts, LongTailError
from longtail_lightning.text._base import TextEncoder

TEXTS = ["cat", "big dog", "", "a very long name", "owl"]


class Spelled(TextEncoder):
    """Tells what it was given: the tokens of a row, up to five."""

    num_features = 12

    def __init__(self, max_tokens=None):
        super().__init__()
        self.max_tokens = max_tokens
        self.asked = []

    def tokens(self, text):
        self.asked.append(text)
        return [ord(letter) for letter in text]

    def encode(self, tokens, lengths):
        self.rows = ["".join(map(chr, row[:n])) for row, n in zip(tokens.tolist(), lengths.tolist())]
        assert all(not row[n:].any() for row, n in zip(tokens, lengths))
        return torch.zeros(len(tokens), 12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from(["", " ", ", "]),
    st.sampled_from([None, 1, 7]),
)
def test_what_is_encoded_is_the_joined_string_cut_off(numbers, separator, limit):
    encoder = Spelled(limit)
    found = JoinedTexts(separator=separator)(encoder, torch.tensor(numbers), TEXTS)
    whole = [separator.join(TEXTS[n] for n in row) for row in numbers]
    assert encoder.rows == [text[:limit] for text in whole]
    assert found.truncated == pytest.approx(sum(len(text) > (limit or 99) for text in whole) / len(whole))


def test_orders():
    numbers = torch.tensor([[4, 0, 1, 0, 1, 0]])
    expected = {
        "nearest_first": "owl|cat|big dog|cat|big dog|cat",
        "nearest_last": "cat|big dog|cat|big dog|cat|owl",
        "frequent_first": "cat|cat|cat|big dog|big dog|owl",
    }
    for order, text in expected.items():
        encoder = Spelled()
        JoinedTexts(separator="|", order=order)(encoder, numbers, TEXTS)
        assert encoder.rows == [text]


def test_each_text_is_cut_once_and_texts_may_grow_at_their_end():
    encoder, texts = Spelled(), ["cat", "dog"]
    joined = JoinedTexts()
    for _ in range(3):
        joined(encoder, torch.tensor([[0, 1, 1]]), texts)
    assert sorted(encoder.asked) == [" ", "cat", "dog"]
    texts.append("owl")
    joined(encoder, torch.tensor([[2, 0, 2]]), texts)
    assert encoder.rows == ["owl cat owl"]
    joined(encoder, torch.tensor([[1, 0]]), ["fox", "hen"])
    assert encoder.rows == ["hen fox"]


def test_texts_are_cut_anew_once_they_have_other_tokens(tmp_path):
    (tmp_path / "glove.txt").write_text("".join(f"w{n} {n} {n}\n" for n in range(6)))
    encoder, joined = BagOfWords(2, vectors=tmp_path / "glove.txt"), JoinedTexts()
    texts = [f"w{n}" for n in range(6)]
    encoder(["w3"])
    early = {name: value.clone() for name, value in encoder.state_dict().items()}
    numbers = torch.tensor([[5], [0]])
    assert joined(encoder, numbers, texts).features.tolist() == [[5, 5], [0, 0]]
    encoder.load_state_dict(early)  # its words have other numbers now
    assert joined(encoder, numbers, texts).features.tolist() == [[5, 5], [0, 0]]


def test_copies_do_not_carry_the_tokens():
    joined = JoinedTexts()
    joined(BagOfWords(3), torch.tensor([[0, 1]]), TEXTS)
    assert len(pickle.dumps(joined)) == len(pickle.dumps(JoinedTexts()))


def test_the_mean_of_features_is_that_of_the_texts_alone():
    encoder = BagOfWords(5)
    numbers = torch.tensor([[0, 1, 1], [4, 4, 3]])
    found = JoinedTexts(combine="features")(encoder, numbers, TEXTS)
    expected = torch.stack([encoder([TEXTS[n] for n in row]).mean(0) for row in numbers.tolist()])
    torch.testing.assert_close(found.features, expected)


@pytest.mark.parametrize("combine", ["tokens", "features"])
def test_no_text_is_the_empty_one(combine):
    encoder = BagOfWords(5)
    found = JoinedTexts(combine=combine)(encoder, torch.empty(2, 0, dtype=torch.int64), TEXTS)
    assert torch.equal(found.features, encoder(["", ""]))


def test_wrong_choices():
    for options in ({"order": "first"}, {"combine": "words"}):
        with pytest.raises(LongTailError, match="choose"):
            JoinedTexts(**options)
