"""Prototypes, knowledge transfer and their control as methods, on a small long tail."""

from __future__ import annotations

import warnings

import pytest
import torch

from longtail_lightning import (
    CRT,
    AdjustedLogits,
    CosineHead,
    EnsembleHead,
    FeatureBank,
    KnowledgeTransfer,
    KnowledgeTransferHead,
    LinearHead,
    LongTailError,
    PrototypeHead,
    Prototypes,
    SquareRootSampler,
    fit_head,
)
from longtail_lightning.features._evaluate import class_accuracy
from tests.methods.test_methods import COUNTS, bank


@pytest.fixture(scope="module")
def stage():
    torch.manual_seed(0)
    train, val = bank(COUNTS, 1), bank([60] * 5, 2)
    head = fit_head(train, CosineHead(16, 5), sampler=SquareRootSampler, epochs=30, batch_size=64, lr=0.5)
    return head, train, val


def test_an_ensemble_shares_one_knowledge_and_the_learned_scale(stage):
    head, train, _ = stage
    made = KnowledgeTransfer(k=(0, 20, 100))(head, train)
    assert isinstance(made.head, EnsembleHead)
    assert made.head.shared
    assert made.details == {"k": [0, 20, 100], "tau": 10.0}
    for member, k in zip(made.head.heads, (0, 20, 100)):
        alone = KnowledgeTransferHead(16, 5, k=k, scale=head.scale.item()).fit(train, classifier=head)
        torch.testing.assert_close(member(train.features), alone(train.features))
    assert made.head.heads[0].classes.counts.tolist() == COUNTS


def test_members(stage):
    head, train, _ = stage
    (prototypes,) = [Prototypes()(head, train).head]
    assert isinstance(prototypes, PrototypeHead)
    both = KnowledgeTransfer(k=(), also=("prototypes", "classifier"))(head, train).head
    mean = (prototypes(train.features).softmax(1) + head(train.features).softmax(1)) / 2
    torch.testing.assert_close(both(train.features).exp(), mean, rtol=1e-4, atol=1e-6)


def test_tau_is_the_first_best_on_validation_features(stage):
    head, train, val = stage
    made = KnowledgeTransfer(k=20, tau="val", taus=(0.0, 5.0, 5.0, 50.0))(head, train, val)
    accuracies = {}
    for tau in (0.0, 5.0, 50.0):
        found = KnowledgeTransfer(k=20, tau=tau)(head, train).head
        accuracies[tau] = float(class_accuracy(found, val).nanmean())
    best = max(accuracies, key=accuracies.get)
    assert made.details["tau"] == made.head.tau == best
    assert made.details["curve"]["chosen"] == best
    again = KnowledgeTransfer(k=20, tau=best)(head, train).head
    torch.testing.assert_close(made.head(val.features), again(val.features))


def test_few_shot_classes_gain_as_the_paper_says(stage):
    head, train, val = stage
    few = {}
    for name, method in {"prototypes": Prototypes(), "w_h": KnowledgeTransfer(k=20)}.items():
        few[name] = float(class_accuracy(method(head, train).head, val)[3:].mean())
    assert float(class_accuracy(head, val)[3:].mean()) < min(few.values())


def test_adjusted_logits(stage):
    head, train, _ = stage
    made = AdjustedLogits(tau=0.5)(head, train).head
    prior = torch.tensor(COUNTS) / sum(COUNTS)
    torch.testing.assert_close(made(train.features), head(train.features) - 0.5 * prior.log())


def test_a_linear_classifier_is_taken_with_a_warning(stage):
    _, train, _ = stage
    with pytest.warns(UserWarning, match="requires a cosine classifier, this one is a LinearHead"):
        KnowledgeTransfer(k=20)(LinearHead(16, 5), train)
    with pytest.warns(UserWarning, match="requires a cosine"):
        KnowledgeTransfer(k=20).check(LinearHead(16, 5))


def test_crt_on_a_head_without_anything_to_train_says_what_it_trains(stage):
    head, train, _ = stage
    for made in (KnowledgeTransfer(k=20)(head, train).head, KnowledgeTransfer()(head, train).head):
        with pytest.warns(UserWarning, match=r"has nothing to train: cRT trains a new CosineHead in its place"):
            retrained = CRT(epochs=1, batch_size=64)(made, train).head
        assert type(retrained) is CosineHead
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert type(CRT(head=LinearHead, epochs=1, batch_size=64)(made, train).head) is LinearHead


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda head, train: KnowledgeTransfer(k=200)(head, train), "largest k possible is 199"),
        (lambda head, train: KnowledgeTransfer(k=()), "at least one k"),
        (lambda head, train: KnowledgeTransfer(tau="test"), "tau='test'"),
        (lambda head, train: KnowledgeTransfer(also="prototypes"), "also='prototypes'"),
        (lambda head, train: KnowledgeTransfer(also=("weights",)), "also="),
        (lambda head, train: KnowledgeTransfer(taus=(1.0, -2.0), tau="val"), "tau"),
        (lambda head, train: KnowledgeTransfer(k=2.5), "k"),
        (lambda head, train: KnowledgeTransfer(tau="val")(head, train), "no validation images to choose tau"),
        (lambda head, train: KnowledgeTransfer()(Prototypes()(head, train).head, train), "on a trained CosineHead"),
        (lambda head, train: KnowledgeTransfer()(torch.nn.ReLU(), train), "got a ReLU"),
        (lambda head, train: KnowledgeTransfer(k=0)(head, FeatureBank.from_arrays(torch.ones(3, 4), [0, 1, 4])), "16"),
    ],
)
def test_bad_input(stage, act, message):
    head, train, _ = stage
    with pytest.raises(LongTailError, match=message):
        act(head, train)
