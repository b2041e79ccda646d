"""Which items of a memory spoke for which class."""

from __future__ import annotations

import json

import pytest
import torch

from longtail_lightning import BagOfWords, FeatureBank, LongTailError, RetrievalMemory, load
from longtail_lightning.modules.explanation import _drops
from longtail_lightning.report.evidence import plot_evidence
from tests.modules.test_retrieval_augmented import WORDS, make, named_data, on_features
from tests.tiny import tiny_model, tiny_trainer


def test_what_a_text_adds_is_what_is_missing_without_it():
    model, _ = on_features(k=4, text_encoder=BagOfWords(9))
    numbers = torch.tensor([[0, 1, 0, 2], [1, 1, 1, 1]])
    with torch.no_grad():
        whole = model.retrieval_logits(numbers)
        found = _drops(model, numbers, whole)
        without = {
            0: model.retrieval_head(model.text_encoder([f"{WORDS[1]} {WORDS[2]}"]))[0],
            1: model.retrieval_head(model.text_encoder([f"{WORDS[0]} {WORDS[0]} {WORDS[2]}"]))[0],
            2: model.retrieval_head(model.text_encoder([f"{WORDS[0]} {WORDS[1]} {WORDS[0]}"]))[0],
        }
        nothing = model.retrieval_head(model.text_encoder([""]))[0]
    texts = [model.memory.different_texts[number] for number in range(3)]
    assert texts == WORDS[:3]
    for place, (text, number) in enumerate(zip(numbers[0].tolist(), (2, 1, 2, 1))):
        torch.testing.assert_close(found[0, place], (whole[0] - without[text]) / number)
    for place in range(4):
        torch.testing.assert_close(found[1, place], (whole[1] - nothing) / 4)


@pytest.fixture
def checkpoint():
    data = named_data()
    model = make(data, path="memory")
    trainer = tiny_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(model, data)
    trainer.save_checkpoint("m.ckpt")
    return "m.ckpt"


def test_explanations_agree_with_predictions_and_are_plain_values(checkpoint):
    classifier = load(checkpoint, parts={"memory": "memory"})
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    told = classifier.explain_pictures(images)
    for explanation, prediction in zip(told, classifier.predict(images)):
        assert explanation.name == prediction.name
        assert explanation.probability == pytest.approx(prediction.probability)
        assert explanation.base in WORDS
        assert len(explanation.items) == 4
        assert [item.score for item in explanation.items] == sorted((i.score for i in explanation.items), reverse=True)
        assert sum(number for _, number in explanation.frequent) == 4
        for item in explanation.items:
            assert item.text == classifier.module.memory.text((item.source, item.id))
            assert item.amount >= item.for_predicted - 1e-6
    rows = json.loads(json.dumps([explanation.as_dict() for explanation in told]))
    assert rows[0]["items"][0]["speaks_for"] in WORDS
    plot_evidence(rows).savefig("evidence.png")


def test_a_source_that_is_added_shows_in_the_evidence(checkpoint):
    classifier = load(checkpoint, parts={"memory": "memory"})
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    bank = classifier.features(images)
    web = FeatureBank.from_arrays(bank.features, ids=["x", "y"], texts=["white owl"] * 2, fingerprint=bank.fingerprint)
    classifier.module.memory.add_source("web", web)
    for place, explanation in enumerate(classifier.explain_pictures(images)):
        nearest = explanation.items[0]
        assert (nearest.id, nearest.source, nearest.text) == ("xy"[place], "web", "white owl")
        assert nearest.score == pytest.approx(1.0, abs=1e-5)


def test_models_without_a_memory():
    data = named_data()
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint("plain.ckpt")
    with pytest.raises(LongTailError, match="BaseClassifier looks nothing up in a memory"):
        load("plain.ckpt").explain_pictures(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_broken_pictures_are_named(checkpoint, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    classifier = load(checkpoint, parts={"memory": RetrievalMemory.load("memory")})
    (told,) = classifier.explain_pictures("broken.jpg")
    assert told.name is None
    assert "broken.jpg" in told.error
