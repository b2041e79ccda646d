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
    FeCAM,
    FeCAMHead,
    KnowledgeTransfer,
    KnowledgeTransferHead,
    LinearHead,
    LongTailError,
    PrototypeHead,
    Prototypes,
    SquareRootSampler,
    fit_head,
)
from longtail_lightning._spec import build, spec_of
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


@pytest.mark.parametrize("options", [{"k": 20}, {"k": 20, "attention": "p->p", "parts": ("prototype",)}])
def test_shrinkage_is_chosen_like_tau_and_before_it(stage, options):
    head, train, val = stage
    tried = (0.0, 5.0, 500.0)
    made = KnowledgeTransfer(shrinkage="val", shrinkages=tried, tau="val", taus=(1.0, 5.0), **options)(head, train, val)
    curve = made.details["shrinkage_curve"]
    found = [
        float(class_accuracy(KnowledgeTransfer(shrinkage=m, **options)(head, train).head, val).nanmean()) for m in tried
    ]
    assert [torch.tensor(row["per_class"]).nanmean().item() for row in curve["rows"]] == pytest.approx(found)
    best = made.details["shrinkage"]
    assert best == made.head.shrinkage == curve["chosen"] == tried[found.index(max(found))]
    again = KnowledgeTransfer(shrinkage=best, tau=made.details["curve"]["chosen"], **options)(head, train)
    torch.testing.assert_close(made.head(val.features), again.head(val.features))
    twin = build(spec_of(made.head))
    twin.load_state_dict(made.head.state_dict())
    torch.testing.assert_close(twin(val.features), made.head(val.features), rtol=0, atol=0)


def test_several_prototypes(stage):
    head, train, val = stage
    made = KnowledgeTransfer(k=(0, 20), prototypes_per_class=3, also=("prototypes", "classifier"))(head, train)
    assert made.head.shared
    assert made.head.heads[0].classes.centers.shape == (15, 16)
    assert made.details["prototypes_per_class"] == 3
    assert float(class_accuracy(made.head, val).nanmean()) > 0.4
    several = Prototypes(prototypes_per_class=3)(head, train).head
    torch.testing.assert_close(several(val.features), made.head.heads[0](val.features))


def test_fecam_is_fitted_on_the_training_features(stage):
    head, train, val = stage
    made = FeCAM(tukey=1.0, pooled=3.0)(head, train)
    alone = FeCAMHead(16, 5, tukey=1.0, pooled=3.0).fit(train)
    torch.testing.assert_close(made.head(val.features), alone(val.features))


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
        (lambda head, train: KnowledgeTransfer(shrinkage="best"), "shrinkage='best'"),
        (lambda head, train: KnowledgeTransfer(shrinkage="val")(head, train), "choose shrinkage on.*fix shrinkage=0"),
        (lambda head, train: KnowledgeTransfer(shrinkage="val", shrinkages=()), "no value of shrinkage to try"),
        (lambda head, train: KnowledgeTransfer(prototypes_per_class=0), "prototypes_per_class"),
        (lambda head, train: FeCAM(gamma1=-1.0), "gamma1"),
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
