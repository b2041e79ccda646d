from __future__ import annotations

import copy
import json
from functools import partial

import pytest
import torch
from torch import nn

import longtail_lightning
from longtail_lightning import (
    CRT,
    LWS,
    NCM,
    CosineHead,
    FeatureBank,
    InstanceBalancedSampler,
    LearnableScaleHead,
    LinearHead,
    LogitAdjustedLoss,
    MLPHead,
    NearestClassMeanHead,
    PowerSampler,
    ProgressivelyBalancedSampler,
    Retraining,
    TauNormalization,
    TauNormalizedHead,
    fit_head,
    learn_tau,
    select_tau,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning._rooms import exports
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.methods.by_name import METHODS, as_methods
from longtail_lightning.methods.crt import new_head

COUNTS = [200, 80, 30, 10, 5]
CENTERS = torch.randn(5, 16, generator=torch.Generator().manual_seed(9))


def bank(counts, seed):
    labels = torch.cat([torch.full((count,), c) for c, count in enumerate(counts)])
    noise = torch.randn(len(labels), 16, generator=torch.Generator().manual_seed(seed))
    return FeatureBank.from_arrays((CENTERS[labels] + 1.5 * noise).relu(), labels)


@pytest.fixture(scope="module")
def stage():
    """A classifier trained jointly on a long tail, and balanced validation features."""
    torch.manual_seed(0)
    train, val = bank(COUNTS, 1), bank([60] * 5, 2)
    head = fit_head(train, LinearHead(16, 5), sampler=InstanceBalancedSampler, epochs=30, batch_size=64, lr=0.05)
    return head, train, val


@pytest.mark.parametrize(
    "method", [CRT(batch_size=64, lr=0.05), LWS(batch_size=64), TauNormalization(), NCM()], ids=lambda m: m.name
)
def test_each_method_helps_the_tail_and_leaves_the_trained_head_alone(stage, method):
    head, train, val = stage
    before = {name: value.clone() for name, value in head.state_dict().items()}
    made = method(head, train, val).head
    joint, balanced = class_accuracy(head, val), class_accuracy(made, val)
    assert balanced[3:].mean() > joint[3:].mean() + 0.05
    assert balanced.mean() > joint.mean()
    torch.testing.assert_close(head.state_dict(), before, rtol=0, atol=0)


def test_each_is_what_its_parts_give(stage):
    head, train, val = stage
    torch.testing.assert_close(
        LWS(seed=3)(head, train).head.scale, fit_head(train, LearnableScaleHead(head), epochs=5, seed=3).scale
    )
    assert TauNormalization()(head, train, val).head.tau == select_tau(head, val).tau
    assert TauNormalization(choose="train")(head, train, val).head.tau == select_tau(head, train).tau
    assert TauNormalization(choose="learn")(head, train).head.tau == learn_tau(head, train)
    settings = {"epochs": 3, "lr": 0.05, "batch_size": 16, "seed": 1}
    assert TauNormalization(choose="learn", **settings)(head, train).head.tau == learn_tau(head, train, **settings)
    assert TauNormalization(tau=0.4, bias="keep")(head, train).head.bias == "keep"
    expected = NearestClassMeanHead(16, 5, metric="euclidean").fit(train)
    torch.testing.assert_close(NCM(metric="euclidean")(head, train).head.class_means, expected.class_means)


@pytest.mark.parametrize(
    "method", [CRT(epochs=1), LWS(epochs=1), TauNormalization(choose="learn"), NCM()], ids=lambda m: m.name
)
def test_nothing_is_learned_from_validation_features(stage, method):
    head, train, val = stage
    torch.testing.assert_close(
        method(head, train, val).head.state_dict(), method(head, train).head.state_dict(), rtol=0, atol=0
    )


def test_crt_begins_anew_and_is_a_function_of_its_seed(stage):
    head, train, _ = stage
    barely = CRT(epochs=1, lr=1e-9)(head, train).head
    assert not torch.allclose(barely.weight, head.weight, atol=1e-3)
    first, again, other = (CRT(epochs=1, seed=seed)(head, train).head.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_loss_is_not_bound_to_the_first_bank(stage):
    head, train, val = stage
    loss = LogitAdjustedLoss()
    CRT(epochs=1, loss=loss)(head, train)
    assert loss.class_counts is None
    CRT(epochs=1, loss=loss)(head, val)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (nn.Linear(16, 5, bias=False), LinearHead),
        (CosineHead(16, 5, scale=9.0), CosineHead),
        (MLPHead(16, 5, depth=3), MLPHead),
        (LearnableScaleHead(LinearHead(16, 5)), LinearHead),
        (TauNormalizedHead(LinearHead(16, 5)), LinearHead),
        (NearestClassMeanHead(16, 5), LinearHead),
    ],
)
def test_a_new_head_is_of_the_kind_of_the_old(head, kind):
    new = new_head(head)
    assert type(new) is kind
    assert all(p.requires_grad for p in new.parameters())
    if isinstance(head, nn.Linear):
        assert new.bias is None
    if isinstance(head, CosineHead):
        assert new.scale.item() == 9.0


def test_another_kind_can_be_asked_for(stage):
    head, train, _ = stage
    assert CRT(head=partial(MLPHead, hidden=7), epochs=1)(head, train).head.hidden == 7


def test_names_become_methods():
    methods = as_methods(["crt", "LWS", TauNormalization(name="tau_train"), "ncm"])
    assert [method.name for method in methods] == ["crt", "lws", "tau_train", "ncm"]
    assert [type(method) for one in ("crt", NCM()) for method in as_methods(one)] == [CRT, NCM]
    with pytest.raises(LongTailError, match="Did you mean ncm"):
        as_methods(["ncmm"])


def test_every_method_of_the_room_has_its_name_without_a_list():
    public = [getattr(longtail_lightning, name) for name in exports("methods")]
    found = {cls.name: cls for cls in public if isinstance(cls, type) and issubclass(cls, Retraining)
             and cls is not Retraining}  # fmt: skip
    assert found == METHODS
    assert METHODS.keys() >= {"crt", "lws", "tau", "ncm"}
    for name, cls in METHODS.items():
        assert cls().name == name, "the default of the argument is the name of the class"


def test_labels_are_those_of_the_paper_unless_a_method_has_another_name(stage):
    head, train, val = stage
    labels = {
        CRT(epochs=1): "cRT",
        CRT(epochs=1, name="mine"): "mine",
        LWS(epochs=1): "LWS",
        NCM(): "NCM",
        NCM(name="means"): "means",
        TauNormalization(tau=0.75): "tau 0.75",
        TauNormalization(tau=0.75, name="fixed"): "fixed 0.75",
    }
    for method, label in labels.items():
        assert method(head, train, val).label == label


def test_the_details_hold_what_was_looked_at_and_the_method_keeps_nothing(stage):
    head, train, val = stage
    method = TauNormalization()
    before = copy.deepcopy(vars(method))
    for split, bank in (("val", val), ("train", train)):
        method.choose = before["choose"] = split
        details = method(head, train, val).details
        found = select_tau(head, bank)
        assert details["tau"] == details["curve"]["chosen"] == found.tau
        assert (details["curve"]["x"], details["curve"]["split"]) == ("tau", split)
        assert [row["tau"] for row in details["curve"]["rows"]] == found.taus
        assert [row["per_class"] for row in details["curve"]["rows"]] == found.per_class.tolist()
        json.dumps(details)
        assert vars(method) == before
    learned = TauNormalization(choose="learn")(head, train)
    assert learned.details == {"tau": learned.head.tau}
    assert CRT(epochs=1)(head, train).details == {}


def test_tau_without_validation_tells_the_three_ways_out(stage):
    head, train, _ = stage
    with pytest.raises(LongTailError, match=r"val_split=0\.1, or .*choose=\"train\"\), or .*tau=0\.7"):
        TauNormalization()(head, train)
    with pytest.raises(LongTailError, match="on 'val' or 'train', or by 'learn'"):
        TauNormalization(choose="test")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            CRT(head=LearnableScaleHead),
            r"head=LearnableScaleHead cannot be called with \(num_features, num_classes\), ",
        ),
        (CRT(head=lambda num_features, num_classes: None), "it gives a NoneType: give what can, such as head=MLPHead"),
        (CRT(sampler=ProgressivelyBalancedSampler), "'epochs': give what can, such as sampler=SquareRootSampler"),
        (LWS(sampler=lambda labels: 3), "cannot be called with the labels, it gives a int"),
        (LWS(sampler=partial(PowerSampler, power=1)), r"sampler=partial\(\.\.\.\) cannot be called with the labels, "),
    ],
)
def test_what_cannot_be_made_is_told_before_the_training(method, message):
    with pytest.raises(LongTailError, match=message):
        method.check(LinearHead(16, 5))


@pytest.mark.parametrize("head", [nn.Linear(16, 5), nn.Sequential(nn.Linear(16, 5))])
def test_the_look_before_the_training_draws_nothing(head):
    before = torch.get_rng_state()
    CRT(head=MLPHead, sampler=partial(ProgressivelyBalancedSampler, epochs=3)).check(head)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_learned_tau_that_nobody_would_look_for_is_refused():
    labels = torch.arange(5).repeat(4)
    perfect = FeatureBank.from_arrays(torch.eye(5)[labels], labels)
    head = LinearHead(5, 5, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(5) / 10)
    with pytest.raises(LongTailError, match=r"The learned tau, .* outside of -1 to 3"):
        learn_tau(head, perfect, epochs=200, batch_size=4)
    with pytest.raises(LongTailError, match=r"The learned tau, .* outside of -1 to 3"):
        TauNormalization(choose="learn", epochs=200, batch_size=4)(head, perfect)


def test_class_accuracy_leaves_out_absent_classes_and_the_mode_alone(stage):
    head, train, _ = stage
    part = train.subset(train.labels != 2)
    values = class_accuracy(head.train(), part)
    assert head.training
    assert bool(values[2].isnan())
    right = head(part.features).argmax(1) == part.labels
    assert float(values[0]) == pytest.approx(right[part.labels == 0].double().mean().item())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CRT(epochs=0), "epochs=0 must be at least 1"),
        (lambda: LWS(batch_size=0), "batch_size=0 must be at least 1"),
        (lambda: NCM(metric="cosinus"), "Unknown metric='cosinus'"),
        (lambda: TauNormalization(bias="of"), "Unknown bias='of'"),
        (lambda: TauNormalization(taus=[]), "at least one"),
        (lambda: TauNormalization(choose="learn", epochs=0), "epochs=0 must be at least 1"),
        (lambda: as_methods([]), "name at least one of crt, fecam, kt, prototypes, adjusted, lws, ncm, tau"),
        (lambda: TauNormalization(tau=float("nan")), "must be a list of finite"),
        (lambda: CRT(head=nn.Identity()), r"head=Identity\(\.\.\.\) cannot be called with .* head=MLPHead"),
        (lambda: CRT(sampler=InstanceBalancedSampler([0, 1])), r"sampler=Inst.* such as sampler=SquareRootSampler"),
        (lambda: LWS(sampler="balanced"), "sampler='balanced' cannot be called with the labels"),
        (lambda: CRT(loss=LogitAdjustedLoss), r"LogitAdjustedLoss is not a module: .* loss=BalancedSoftmaxLoss\(\)"),
        (lambda: as_methods(CRT), r"CRT is a class, not a method: write CRT\(\) for it"),
        (lambda: as_methods([CRT]), r"write CRT\(\) for it"),
        (
            lambda: as_methods(["ncm", 3]),
            "3 is not a method: name one of crt, fecam, kt, prototypes, adjusted, lws, ncm, tau",
        ),
    ],
)
def test_wrong_settings_are_told_at_once_and_draw_nothing(make, message):
    before = torch.get_rng_state()
    with pytest.raises(LongTailError, match=message):
        make()
    TauNormalization()
    assert torch.equal(torch.get_rng_state(), before)
