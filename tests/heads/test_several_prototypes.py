"""Several prototypes for each class: each makes a vector of its own, and the closest one counts."""

from __future__ import annotations

import pytest
import torch

from longtail_lightning import EnsembleHead, KnowledgeTransferHead, LongTailError, PrototypeHead
from longtail_lightning.heads._centers import centers_of
from longtail_lightning.heads._class_knowledge import ClassKnowledge
from tests.heads.knowledge import COUNTS, WIDTH, bank, queries, weight
from tests.reference import knowledge_transfer as paper

PER_CLASS = 3


def two_groups(number=20):
    """A class whose features lie around two directions."""
    noise = 0.05 * torch.randn(2 * number, 4, generator=torch.Generator().manual_seed(0))
    return torch.eye(4)[[0] * number + [1] * number] + noise


def test_a_center_is_the_direction_of_its_cluster():
    features = torch.nn.functional.normalize(two_groups().double(), dim=1)
    found = centers_of(features, 2)
    nearest = (features @ found.T).argmax(1)
    assert len(set(nearest[:20].tolist())) == len(set(nearest[20:].tolist())) == 1
    for c in range(2):
        mean = features[nearest == c].mean(0)
        torch.testing.assert_close(found[c], mean / mean.norm(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"attention": "w->p"}, {"attention": "p->p"}, {"parts": ("transfer", "prototype")}, {"shrinkage": 5.0}],
)
def test_knowledge_transfer_asks_with_each_center(options):
    head = KnowledgeTransferHead(WIDTH, len(COUNTS), prototypes_per_class=PER_CLASS, **options).double()
    head.fit(bank(), classifier=weight())
    p, w = list(head.classes.prototypes), list(weight())
    centers = head.classes.centers.view(len(COUNTS), PER_CLASS, WIDTH)
    asks, answers = {"p->w": ("c", w), "w->p": ("w", p), "p->p": ("c", p)}[options.get("attention", "p->w")]
    features = queries()
    best = [torch.full((len(features),), -torch.inf, dtype=torch.float64)] * len(COUNTS)
    for i, n in enumerate(COUNTS):
        for center in centers[i][: min(n, PER_CLASS)]:
            kt = paper.transferred(center if asks == "c" else w[i], answers, COUNTS, 20, 10.0)
            own = paper.shrunk(center, kt, n, 5.0) if "shrinkage" in options else center
            named = {"transfer": kt / paper.norm(kt), "prototype": own / paper.norm(own)}
            named["classifier"] = w[i] / paper.norm(w[i])
            vector = sum(named[part] for part in options.get("parts", named))
            mine = torch.stack([row[0] for row in paper.logits(features, [vector], head.scale)])
            best[i] = torch.maximum(best[i], mine)
    expected = torch.stack(best, 1)
    logits = head(features)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(z.square().sum(), features)[0] for z in (logits, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_a_class_of_two_kinds_is_known_by_both():
    known = type("Bank", (), {"features": torch.cat([two_groups(), torch.eye(4)[[2]]]), "labels": [0] * 40 + [1]})
    between = torch.tensor([[1.0, 0.0, 0.9, 0.0]])
    assert PrototypeHead(4, 2).fit(known)(between).argmax() == 1
    assert PrototypeHead(4, 2, prototypes_per_class=2).fit(known)(between).argmax() == 0


def test_fewer_images_than_prototypes():
    head = PrototypeHead(WIDTH, len(COUNTS), prototypes_per_class=PER_CLASS).double().fit(bank())
    assert head.classes.filled.view(-1, PER_CLASS).sum(1).tolist() == [min(n, PER_CLASS) for n in COUNTS]
    logits = head(queries())
    assert bool(logits.isfinite().all())
    assert float(logits.detach().min()) >= -head.scale


def test_one_prototype_is_the_mean():
    assert "centers" not in ClassKnowledge(4, 2).state_dict()


def test_knowledge_is_shared_by_those_with_as_many():
    heads = [PrototypeHead(4, 2), PrototypeHead(4, 2, prototypes_per_class=2)]
    with pytest.raises(LongTailError, match="1 and 2 prototypes_per_class"):
        EnsembleHead(heads, shared=True)
    with pytest.raises(LongTailError, match="prototypes_per_class"):
        PrototypeHead(4, 2, prototypes_per_class=0)
