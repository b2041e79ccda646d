"""Texts as the mean of the vectors of their words."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch

from longtail_lightning import BagOfWords, LongTailError
from longtail_lightning._spec import build, spec_of


def test_the_mean_of_the_words_whatever_their_order_and_case():
    encoder = BagOfWords(16)
    cat, dog, both, other = encoder(["cat", "dog", "Cat, dog!", "dog_cat"])
    torch.testing.assert_close(both, (cat + dog) / 2)
    assert torch.equal(both, other)
    assert not torch.equal(cat, dog)


def test_vectors_are_uniform_and_depend_on_seed_and_word_alone():
    words = [f"word{n}" for n in range(2000)]
    vectors = BagOfWords(50, standardized=False)(words)
    assert 0 <= float(vectors.min()) < 0.001 < 0.999 < float(vectors.max()) < 1
    assert float(vectors.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(vectors.var()) == pytest.approx(1 / 12, abs=0.002)
    assert torch.equal(BagOfWords(50, standardized=False)(words[::-1]).flip(0), vectors)
    assert not torch.equal(BagOfWords(50, seed=1, standardized=False)(words), vectors)
    torch.testing.assert_close(BagOfWords(50)(words), (vectors - 0.5) * 12**0.5)
    made = "BagOfWords(3, standardized=False)(['owl']).tolist()"
    script = f"from longtail_lightning import BagOfWords; print({made})"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert other == "[[0.8983262181282043, 0.8651003241539001, 0.050601184368133545]]\n"


def test_no_word_gives_zeros():
    assert not BagOfWords(4)(["", "!?"]).any()
    assert BagOfWords(4)([]).shape == (0, 4)


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("cat 1 2 3\nnew york -4 5e-1 6\ndog 7 8 9\n", encoding="utf-8")
    return path


def test_vectors_of_a_file_travel_with_the_weights(glove):
    encoder = BagOfWords(3, vectors=glove)
    expected = encoder(["cat dog", "bird", "dog"])
    assert expected.tolist() == [[4, 5, 6], [0, 0, 0], [7, 8, 9]]
    torch.save(encoder.state_dict(), file := io.BytesIO())
    assert spec_of(encoder)["init_args"]["vectors"] is None
    again = build(spec_of(encoder))
    glove.unlink()
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    with pytest.warns(UserWarning, match="'bird' has no vector in the checkpoint"):
        assert torch.equal(again(["cat dog", "bird", "dog"]), expected)
    assert torch.equal(again(["dog owl"]), expected[2:])  # a word without a vector is left out, not drawn at random
    torch.save(again.state_dict(), second := io.BytesIO())
    third = BagOfWords(3)
    third.load_state_dict(torch.load(io.BytesIO(second.getvalue()), weights_only=True))
    assert torch.equal(third(["cat dog", "dog"]), expected[[0, 2]])


def test_random_vectors_leave_nothing_in_the_weights():
    encoder = BagOfWords(3)
    encoder(["cat"])
    assert not encoder.state_dict()
    assert torch.equal(build(spec_of(encoder))(["cat"]), encoder(["cat"]))


def test_a_file_whose_words_nobody_asked_for(glove):
    again = BagOfWords(3)
    again.load_state_dict(BagOfWords(3, vectors=glove).state_dict())
    with pytest.warns(UserWarning, match="read as nothing"):
        assert not again(["cat"]).any()


def test_a_memory_is_met_whole_before_the_first_batch(glove):
    drawn, read = BagOfWords(3), BagOfWords(3, vectors=glove)
    for encoder in (drawn, read):
        encoder.meet(["cat dog"])
    assert len(read.state_dict()["table.kept"]) == 2
    assert not drawn.state_dict()


def test_damaged_weights(glove):
    encoder = BagOfWords(3, vectors=glove)
    encoder(["cat dog"])
    state = {**encoder.state_dict(), "table.kept": torch.zeros(3, 3)}
    with pytest.raises(LongTailError, match="has 2 words and vectors of shape"):
        BagOfWords(3).load_state_dict(state)


def test_files_that_hold_no_vectors(glove, tmp_path):
    for vectors, message in (
        (tmp_path / "none.txt", r"cannot be read \(No such file or directory\): give a text file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(LongTailError, match=message):
            BagOfWords(3, vectors=vectors)
    with pytest.raises(LongTailError, match="does not hold 4 numbers behind the word"):
        BagOfWords(4, vectors=glove)
    glove.write_text("cat 1 2 3\ndog 1 nan 3\n")
    with pytest.raises(LongTailError, match="'dog' does not hold 3 numbers"):
        BagOfWords(3, vectors=glove)(["dog"])


def test_a_text_is_no_list():
    with pytest.raises(LongTailError, match="takes a list of texts, got 'cat'"):
        BagOfWords(3)("cat")
    with pytest.raises(LongTailError, match="takes a list of texts"):
        BagOfWords(3)([1])


def test_words_met_in_inference_mode_serve_training():
    encoder = BagOfWords(3)
    with torch.inference_mode():
        encoder(["cat"])
    head = torch.nn.Linear(3, 2)
    head(encoder(["cat dog"])).sum().backward()
    assert head.weight.grad is not None
