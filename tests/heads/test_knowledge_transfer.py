"""Knowledge transfer equals the paper's equations, in blocks too, and refuses what has no sense."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from longtail_lightning import CosineHead, FeCAMHead, KnowledgeTransferHead, LinearHead, LongTailError, PrototypeHead
from longtail_lightning.heads import _transfer
from longtail_lightning.heads.knowledge_transfer import transfer_together
from tests.heads.knowledge import COUNTS, WIDTH, bank, queries, weight
from tests.reference import knowledge_transfer as paper

ATTENTIONS = ("p->w", "w->p", "w->w", "p->p")
PARTS = [
    parts for n in (1, 2, 3) for parts in itertools.combinations(("transfer", "prototype", "classifier"), n)
]  # fmt: skip


def fitted(**options):
    head = KnowledgeTransferHead(WIDTH, len(COUNTS), **options).double()
    return head.fit(bank(), classifier=weight())


def expected(k=20, tau=10.0, **options):
    known = bank()
    p = paper.prototypes(known.features, known.labels.tolist(), len(COUNTS))
    return paper.vectors(p, list(weight()), COUNTS, k, tau, **options)


def assert_equals_paper(head, vectors):
    features = queries()
    rows = paper.logits(features, vectors, head.scale)
    mine, theirs = head(features), torch.stack([torch.stack(row) for row in rows])
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(z.square().sum(), features)[0] for z in (mine, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_prototypes_are_those_of_the_paper():
    known = bank()
    head = PrototypeHead(WIDTH, len(COUNTS), scale=7.0).double().fit(known)
    p = paper.prototypes(known.features, known.labels.tolist(), len(COUNTS))
    torch.testing.assert_close(head.classes.prototypes, torch.stack(p), rtol=0, atol=1e-14)
    assert_equals_paper(head, p)


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
@pytest.mark.parametrize(("k", "tau"), [(0, 10.0), (20, 3.0), (21, 0.0), (44, 100.0)])
def test_the_equations_of_the_paper(k, tau, parts):
    assert_equals_paper(fitted(k=k, tau=tau, parts=parts), expected(k, tau, parts=parts))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_attentions_of_table_6(attention):
    assert_equals_paper(fitted(attention=attention), expected(attention=attention))


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
@pytest.mark.parametrize("tau", [0.0, 10.0, 2000.0])
def test_blocks_give_what_one_matrix_gives(monkeypatch, block, tau):
    monkeypatch.setattr(_transfer, "_BLOCK", block)
    heads = [fitted(k=k, tau=tau, parts=("transfer",)) for k in (0, 20, 44)]
    known = heads[0].classes
    for head in heads[1:]:
        head.classes = known
    transfer_together(heads)
    p, w = nn.functional.normalize(known.prototypes, dim=1), nn.functional.normalize(weight(), dim=1)
    for head in heads:
        donors = torch.tensor(COUNTS) > head.k
        full = (tau * p @ w[donors].T).softmax(1) @ w[donors]
        torch.testing.assert_close(head.transferred, nn.functional.normalize(full, dim=1), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The new classes have no learned weight")
@pytest.mark.parametrize("attention", ["p->w", "p->p"])
@pytest.mark.parametrize("parts", [("prototype",), ("prototype", "classifier"), ("transfer", "prototype")])
def test_prototypes_of_few_pictures_shrink_towards_what_their_donors_give(attention, parts):
    m = 7.5
    p = paper.prototypes(bank().features, bank().labels.tolist(), len(COUNTS))
    answers = {"p->w": list(weight()), "p->p": p}[attention]
    given = [paper.transferred(asks, answers, COUNTS, 20, 10.0) for asks in p]
    moved = [paper.shrunk(own, kt, n, m) for own, kt, n in zip(p, given, COUNTS)]
    vectors = []
    for own, kt, w in zip(moved, given, weight()):
        named = {"prototype": own / paper.norm(own), "classifier": w / paper.norm(w), "transfer": kt / paper.norm(kt)}
        vectors.append(sum(named[part] for part in parts))
    head = fitted(attention=attention, parts=parts, shrinkage=m)
    assert_equals_paper(head, vectors)
    assert fitted(parts=("classifier",), shrinkage=m).transferred.shape[0] == 0
    head.add_classes([bank([2], seed=3).features])
    assert head(queries()).shape == (4, 8)


def test_donors_have_more_than_k_images_and_were_learned():
    head = fitted(k=20, parts=("transfer", "prototype"))
    assert {donor for donor, _ in head.donors_of(6)} == {0, 1, 2, 3}, "20 images are not more than 20"
    assert sum(share for _, share in head.donors_of(6)) == pytest.approx(1)
    head.add_classes([bank([50]).features])
    assert head.classes.counts[-1] == 50
    assert {donor for donor, _ in head.donors_of(7)} == {0, 1, 2, 3}, "an added class was never learned"


@pytest.mark.parametrize("per_class", [1, 2])
def test_donors_are_told_with_the_shares_of_the_attention(per_class):
    head = fitted(k=20, tau=2.0, prototypes_per_class=per_class)
    w = [row / paper.norm(row) for row in weight()]
    asks = [head.classes.prototypes[3]] if per_class == 1 else head.classes.centers[6:8]
    for top in (2, 10):
        expected = {}
        for asking in asks:
            given = [(2.0 * (asking / paper.norm(asking) * w[j]).sum()).exp() for j in range(4)]
            for j in range(4):
                expected[j] = expected.get(j, 0.0) + float(given[j] / sum(given)) / per_class
        found = head.donors_of(3, top=top)
        assert [donor for donor, _ in found] == sorted(expected, key=expected.get, reverse=True)[:top]
        assert [share for _, share in found] == pytest.approx([expected[donor] for donor, _ in found], rel=1e-6)


def test_added_classes_put_all_classes_into_the_continual_form():
    head, continual = fitted(), fitted(parts=("transfer", "prototype"))
    learned = head(queries()).detach()
    new = bank([3], seed=5).features
    with pytest.warns(UserWarning, match="all classes go without"):
        head.add_classes([new])
    continual.add_classes([new])
    torch.testing.assert_close(head(queries()), continual(queries()))
    head.remove_classes([7])
    torch.testing.assert_close(head(queries()), learned, rtol=0, atol=0)


def test_two_forms_side_by_side_would_call_old_pictures_new():
    """The fault that the rule above prevents, as users meet it: old weights beside the prototype of a new class."""
    generator = torch.Generator().manual_seed(0)
    means = nn.functional.normalize(torch.randn(20, 64, generator=generator), dim=1)
    labels = torch.arange(20).repeat_interleave(30)
    # All features have something in common, as those of a network do, which learned weights subtract.
    common = 2 * nn.functional.normalize(torch.randn(64, generator=generator), dim=0)
    features = means[labels] + common + 0.05 * torch.randn(600, 64, generator=generator)
    classifier = CosineHead(64, 20)
    with torch.no_grad():
        classifier.weight.copy_(means)
    known = type("Bank", (), {"features": features, "labels": labels})
    new = nn.functional.normalize(torch.randn(64, generator=generator), dim=0) + common
    imprinted = CosineHead(64, 21)
    with torch.no_grad():
        imprinted.weight.copy_(torch.cat([means, nn.functional.normalize(new, dim=0)[None]]))
    assert float((imprinted(features).argmax(1) == 20).float().mean()) > 0.9
    head = KnowledgeTransferHead(64, 20, k=20).fit(known, classifier=classifier)
    with pytest.warns(UserWarning, match="continual form"):
        head.add_classes([new[None]])
    assert float((head(features).argmax(1) == labels).float().mean()) > 0.9


def test_a_class_without_features_never_wins():
    head = KnowledgeTransferHead(WIDTH, len(COUNTS) + 1).double()
    head.fit(bank(), classifier=torch.cat([weight(), torch.ones(1, WIDTH)]))
    logits = head(queries(64))
    assert bool(logits.isfinite().all())
    assert not bool((logits.argmax(1) == len(COUNTS)).any())
    torch.testing.assert_close(logits[:, :-1], fitted()(queries(64)))


def test_state_travels_without_the_data():
    head, twin = fitted(), KnowledgeTransferHead(WIDTH, len(COUNTS)).double()
    twin.load_state_dict(head.state_dict())
    torch.testing.assert_close(twin(queries()), head(queries()), rtol=0, atol=0)
    for each in (head, twin):
        with pytest.warns(UserWarning, match="continual"):
            each.add_classes([bank([2], seed=9).features])
        each.remove_classes([2, 5])
    torch.testing.assert_close(twin(queries()), copy.deepcopy(head)(queries()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: fitted(k=60), r"k=60: no learned class has more than 60 .*largest k possible is 59"),
        (lambda: fitted(attention="p->q"), "Unknown attention='p->q'"),
        (lambda: fitted(parts=("transfer", "weights")), "parts="),
        (lambda: fitted(parts="transfer"), "parts='transfer'"),
        (lambda: fitted(tau=-1.0), "tau"),
        (lambda: fitted(k=-1), "k"),
        (lambda: fitted(shrinkage=-1), "shrinkage"),
        (lambda: KnowledgeTransferHead(WIDTH, 7).fit(bank()), "needs a trained classifier"),
        (lambda: KnowledgeTransferHead(4, 7).fit(bank(), classifier=weight()), "5 wide, this head was made for 4"),
        (lambda: KnowledgeTransferHead(WIDTH, 7).fit(bank(), classifier=weight(6)), "the bank has 7 classes"),
        (lambda: KnowledgeTransferHead(WIDTH, 7).fit(bank(), classifier=nn.ReLU()), "one weight vector per class"),
        (lambda: KnowledgeTransferHead(WIDTH, 7).fit(bank(), classifier=weight() * torch.nan), "NaN or infinity"),
        (lambda: KnowledgeTransferHead(WIDTH, 7)(queries().float()), "knows no class yet"),
        (lambda: fitted()(torch.zeros(2, 1)), "5 wide, got 1"),
        (lambda: fitted().add_classes([torch.zeros(0, WIDTH)]), r"needs features \(n, 5\)"),
        (lambda: fitted().add_classes([torch.zeros(2, 3)]), r"needs features \(n, 5\), got shape \(2, 3\)"),
        (lambda: fitted().add_classes([torch.full((2, WIDTH), torch.inf)]), "NaN or infinity"),
        (lambda: fitted(attention="w->p").add_classes([torch.ones(2, WIDTH)]), "asks with learned weights"),
        (lambda: fitted().remove_classes(range(7)), "needs at least one"),
        (lambda: fitted().remove_classes([7]), "There is no class 7"),
        (lambda: fitted(k=50).remove_classes([0]), "k=50: no learned class"),
        (lambda: fitted().donors_of(9), "There is no class 9"),
        (lambda: fitted().donors_of(1, top=0), "top"),
        (lambda: fitted().add_classes([]), "No class is given"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(LongTailError, match=message):
        act()


def test_an_error_leaves_the_head_as_it_was():
    head = fitted(k=50)
    before = head(queries()).detach()
    with pytest.raises(LongTailError):
        head.remove_classes([0])
    with pytest.raises(LongTailError):
        fitted(attention="w->p").add_classes([torch.ones(2, WIDTH)])
    torch.testing.assert_close(head(queries()), before, rtol=0, atol=0)
    assert head.num_classes == head.classes.num_classes == 7


def test_linear_classifiers_are_taken_by_direction():
    linear = LinearHead(WIDTH, 7)
    head = KnowledgeTransferHead(WIDTH, 7).fit(bank(), classifier=linear)
    scaled = KnowledgeTransferHead(WIDTH, 7).fit(bank(), classifier=5 * linear.weight)
    torch.testing.assert_close(head(queries().float()), scaled(queries().float()))


@pytest.mark.parametrize("classifier", [weight(6), None], ids=["of other classes", "missing"])
def test_a_fit_that_fails_leaves_the_head_as_it_was(classifier):
    fresh, head = KnowledgeTransferHead(WIDTH, 7).double(), fitted()
    before = head(queries()).detach()
    for each in (fresh, head):
        with pytest.raises(LongTailError):
            each.fit(bank(seed=9), classifier=classifier)
    with pytest.raises(LongTailError, match="knows no class yet"):
        fresh(queries())
    head._composed = None
    torch.testing.assert_close(head(queries()), before, rtol=0, atol=0)


@pytest.mark.parametrize("make", [fitted, lambda **_: FeCAMHead(WIDTH, 7).double().fit(bank())])
def test_what_was_edited_in_inference_mode_can_be_trained_through(make):
    head = make(parts=("transfer", "prototype"))
    with torch.inference_mode():
        head.add_classes([bank([3], seed=5).features])
        head.remove_classes([1])
    features = queries()
    logits = head(features)
    (gradient,) = torch.autograd.grad(logits.sum(), features)
    assert bool(gradient.any())
    head.load_state_dict(copy.deepcopy(head.state_dict()))
    torch.testing.assert_close(head(features), logits, rtol=0, atol=0)


def test_a_class_that_nobody_has_seen_is_given_nothing():
    head = KnowledgeTransferHead(WIDTH, 8).double()
    head.fit(bank(), classifier=torch.cat([weight(), torch.ones(1, WIDTH)]))
    assert head.donors_of(7) == []
