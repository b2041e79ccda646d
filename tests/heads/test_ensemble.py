"""The ensemble averages probabilities, shares what its heads know, and is edited as one."""

from __future__ import annotations

import io
import random

import pytest
import torch
from torch import nn

from longtail_lightning import CosineHead, EnsembleHead, KnowledgeTransferHead, LinearHead, LongTailError, PrototypeHead
from longtail_lightning._spec import build, spec_of
from tests.heads.knowledge import COUNTS, WIDTH, bank, queries, weight
from tests.reference import knowledge_transfer as paper

KS = (0, 20, 44)


def ensemble(ks=KS, parts=("transfer", "prototype"), prototypes=True, per_class=1):
    size, several = (WIDTH, len(COUNTS)), {"prototypes_per_class": per_class}
    heads = [KnowledgeTransferHead(*size, k=k, parts=parts, **several) for k in ks]
    heads = [*([PrototypeHead(*size, **several)] if prototypes else []), *heads]
    made = EnsembleHead(heads, shared=True).double()
    heads[0].classes.fit(bank(), None, weight())
    return made.refit()


@pytest.mark.parametrize("prototypes", [False, True])
def test_equation_8(prototypes):
    head, features = ensemble(prototypes=prototypes), queries()
    known = bank()
    p = paper.prototypes(known.features, known.labels.tolist(), len(COUNTS))
    members = [paper.vectors(p, list(weight()), COUNTS, k, 10.0, parts=("transfer", "prototype")) for k in KS]
    members = [*([p] if prototypes else []), *members]
    rows = paper.ensemble([paper.logits(features, directions, 16.0) for directions in members])
    theirs = torch.stack([torch.stack(row) for row in rows])
    mine = head(features).softmax(1)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-13)
    gradients = [torch.autograd.grad(q.square().sum(), features)[0] for q in (mine, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    torch.testing.assert_close(head(features).exp().sum(1), torch.ones(len(features), dtype=torch.float64))


def test_any_heads_make_an_ensemble():
    heads = [LinearHead(WIDTH, 7), CosineHead(WIDTH, 7)]
    features = torch.randn(3, WIDTH)
    mean = torch.stack([head(features).softmax(1) for head in heads]).mean(0)
    torch.testing.assert_close(EnsembleHead(heads)(features).exp(), mean)


def test_saves_and_reloads_with_one_knowledge():
    head = ensemble()
    twin = build(spec_of(head)).double()
    assert len({id(member.classes) for member in twin.heads}) == 1
    twin.load_state_dict(head.state_dict())
    torch.testing.assert_close(twin(queries()), head(queries()), rtol=0, atol=0)
    storages = {tensor.data_ptr() for tensor in head.state_dict().values() if tensor.shape == (7, WIDTH)}
    assert len(storages) == 2 + len(KS), "prototypes and directions once, and what each k was given"


def test_a_file_of_an_ensemble_that_has_grown_holds_its_knowledge_once():
    head = EnsembleHead([PrototypeHead(512, 40), PrototypeHead(512, 40)], shared=True)
    head.heads[0].classes.fit(bank([2] * 40, 512))
    head.refit()
    head.add_classes([torch.randn(3, 512)])
    torch.save(head.state_dict(), file := io.BytesIO())
    assert file.tell() < 2.3 * 41 * 512 * 4, "prototypes, and the directions that nobody has learned"


def test_an_ensemble_gives_what_its_heads_give_alone():
    head = ensemble(prototypes=False)
    for member in head.heads:
        alone = KnowledgeTransferHead(WIDTH, 7, k=member.k, parts=member.parts).double()
        alone.fit(bank(), classifier=weight())
        torch.testing.assert_close(member(queries()), alone(queries()), rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("per_class", [1, 3])
def test_any_sequence_of_edits_gives_what_building_from_scratch_gives(seed, per_class):
    draw = random.Random(seed)
    head = ensemble(per_class=per_class)
    known = bank()
    features = {c: known.features[known.labels == c] for c in range(len(COUNTS))}
    order, fresh = list(features), 100
    for _ in range(12):
        if draw.random() < 0.5:
            new = [bank([draw.randint(1, 60)], seed=draw.randint(0, 10**6)).features for _ in range(draw.randint(1, 3))]
            head.add_classes(new)
            for given in new:
                features[fresh] = given
                order.append(fresh)
                fresh += 1
        elif removable := [place for place, c in enumerate(order) if c != 0]:  # class 0 is the only donor for k=44
            gone = draw.sample(removable, min(draw.randint(1, 2), len(removable)))
            head.remove_classes(gone)
            order = [c for place, c in enumerate(order) if place not in gone]
        if draw.random() < 0.5:
            head(queries())  # composes vectors, which later edits add to
    scratch = ensemble(per_class=per_class)
    kept = [c for c in order if c < len(COUNTS)]
    scratch.remove_classes([c for c in range(len(COUNTS)) if c not in kept])
    if added := [features[c] for c in order if c >= len(COUNTS)]:
        scratch.add_classes(added)
    assert head.num_classes == scratch.num_classes == len(order)
    torch.testing.assert_close(head(queries()), scratch(queries()), rtol=0, atol=1e-13)
    bank_of_all = type("Bank", (), {"features": torch.cat([features[c] for c in order])})
    bank_of_all.labels = torch.cat([torch.full((len(features[c]),), i) for i, c in enumerate(order)])
    directions = torch.stack([weight()[c] if c < len(COUNTS) else torch.zeros(WIDTH).double() for c in order])
    for member in head.heads:
        new = type(member)(**{**spec_of(member)["init_args"], "num_classes": len(order)}).double()
        new.fit(bank_of_all, classifier=directions)
        torch.testing.assert_close(member(queries()), new(queries()), rtol=0, atol=1e-13)


def test_the_order_of_additions_does_not_matter():
    first, second = bank([3], seed=3).features, bank([5], seed=4).features
    one, other, both = ensemble(), ensemble(), ensemble()
    one.add_classes([first])
    one.add_classes([second])
    other.add_classes([second])
    other.add_classes([first])
    both.add_classes([first, second])
    swapped = [*range(7), 8, 7]
    torch.testing.assert_close(one(queries()), both(queries()), rtol=0, atol=1e-14)
    torch.testing.assert_close(one(queries()), other(queries())[:, swapped], rtol=0, atol=1e-14)


@pytest.mark.filterwarnings("ignore:The new classes have no learned weight")
def test_a_learned_member_is_silent_while_there_are_unlearned_classes():
    learned = KnowledgeTransferHead(WIDTH, 7, parts=("classifier",))
    head = EnsembleHead([PrototypeHead(WIDTH, 7), learned], shared=True).double()
    learned.classes.fit(bank(), None, weight())
    head.refit()
    before = head(queries()).detach()
    head.add_classes([bank([3]).features])
    prototypes = head.heads[0](queries())
    torch.testing.assert_close(head(queries()), prototypes.log_softmax(1))
    head.remove_classes([7])
    torch.testing.assert_close(head(queries()), before, rtol=0, atol=0)
    alone = EnsembleHead([KnowledgeTransferHead(WIDTH, 7, parts=("classifier",))]).double()
    alone.heads[0].fit(bank(), classifier=weight())
    alone.add_classes([bank([3]).features])
    with pytest.raises(LongTailError, match="add a PrototypeHead"):
        alone(queries())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: EnsembleHead([]), "at least one head"),
        (lambda: EnsembleHead([nn.Linear(2, 2)]), "got a Linear"),
        (lambda: EnsembleHead([LinearHead(2, 3), LinearHead(2, 4)]), r"\(2, 3\), \(2, 4\)"),
        (
            lambda: EnsembleHead([LinearHead(WIDTH, 7), *ensemble().heads]).add_classes([torch.ones(2, WIDTH)]),
            "holds a LinearHead, whose classes cannot change",
        ),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(LongTailError, match=message):
        act()


def test_heads_that_know_different_things_lose_a_donor():
    """One of them has nothing to compute anew, the other has."""
    heads = [PrototypeHead(WIDTH, 7).double().fit(bank()), KnowledgeTransferHead(WIDTH, 7, k=0).double()]
    heads[1].fit(bank(), classifier=weight())
    EnsembleHead(heads).remove_classes([0])
    alone = KnowledgeTransferHead(WIDTH, 7, k=0).double().fit(bank(), classifier=weight())
    alone.remove_classes([0])
    torch.testing.assert_close(heads[1](queries()), alone(queries()), rtol=0, atol=1e-13)


def test_a_head_whose_knowledge_was_edited_through_another_one_says_so():
    first, second = PrototypeHead(WIDTH, 7).double().fit(bank()), PrototypeHead(WIDTH, 7).double()
    second.classes = first.classes
    second.refit()
    first.add_classes([bank([2]).features])
    for act in (lambda: second(queries()), lambda: second.add_classes([bank([2]).features])):
        with pytest.raises(LongTailError, match=r"8: call head\.refit"):
            act()
    assert second.refit()(queries()).shape == (4, 8)
