"""FeCAM's head equals the paper's steps, takes new classes, and refuses what has no sense."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from longtail_lightning import FeCAMHead, LongTailError
from longtail_lightning._spec import build, spec_of
from tests.heads.knowledge import COUNTS, WIDTH, bank, queries
from tests.reference import fecam as paper


def fitted(known=None, num_classes=7, **options):
    return FeCAMHead(WIDTH, num_classes, **options).double().fit(bank() if known is None else known)


@pytest.mark.parametrize("pooled", [0.0, 10.0, 1e12])
@pytest.mark.parametrize(("tukey", "gamma1", "gamma2"), [(0.5, 1.0, 1.0), (1.0, 0.3, 0.0), (0.25, 10.0, 10.0)])
def test_the_steps_of_the_paper(pooled, tukey, gamma1, gamma2):
    known = bank()
    counts = [*COUNTS[:-1], 1]  # the last class has one image, which has no covariance
    keep = torch.tensor([not (y == 6 and y in known.labels[:i]) for i, y in enumerate(known.labels.tolist())])
    known = SimpleNamespace(features=known.features[keep], labels=known.labels[keep])
    head = fitted(known, tukey=tukey, gamma1=gamma1, gamma2=gamma2, pooled=pooled, scale=3.0)
    assert head.class_sizes.tolist() == counts
    classes = [[paper.transformed(f, tukey) for f, y in zip(known.features, known.labels) if y == c] for c in range(7)]
    common = paper.within_classes(classes)
    features = queries()
    rows = [
        [3 * paper.logit(paper.transformed(f, tukey), samples, common, gamma1, gamma2, pooled) for samples in classes]
        for f in features
    ]
    mine, theirs = head(features), torch.stack([torch.stack(row) for row in rows])
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(z.square().sum(), features)[0] for z in (mine, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_features_in_blocks(monkeypatch):
    head, features = fitted(), queries().detach()
    whole = head(features)
    monkeypatch.setattr("longtail_lightning.heads.fecam._NUMBERS", 1)
    torch.testing.assert_close(head(features), whole)


def test_zeros_after_a_relu_have_a_gradient():
    features = torch.tensor([[0.0, 1.0, 2.0, 0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    fitted()(features).sum().backward()
    assert bool(features.grad.isfinite().all())


def test_added_classes_are_what_fitting_them_gives():
    """Without a part of the common covariance, which a class that comes later does not change."""
    known, options = bank(), {"pooled": 0.0}
    first = known.labels < 4
    head = fitted(SimpleNamespace(features=known.features[first], labels=known.labels[first]), 4, **options)
    head.add_classes([known.features[known.labels == c] for c in (4, 5)])
    head.add_classes([known.features[known.labels == 6]])
    features = queries().detach()
    torch.testing.assert_close(head(features), fitted(**options)(features), rtol=0, atol=1e-12)
    head.remove_classes([1, 5])
    expected = fitted(**options)(features)[:, [0, 2, 3, 4, 6]]
    torch.testing.assert_close(head(features), expected, rtol=0, atol=1e-12)
    assert head.num_classes == 5


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_order_of_additions_does_not_matter(order):
    new = [bank([n], seed=n).features for n in (1, 9)]
    one, other = fitted(), fitted()
    one.add_classes(new)
    for place in order:
        other.add_classes([new[place]])
    features = queries().detach()
    torch.testing.assert_close(one(features), other(features)[:, [*range(7), *(7 + order.index(p) for p in (0, 1))]])


def test_saves_and_reloads():
    head = fitted(pooled=3.0, tukey=0.25)
    head.add_classes([torch.rand(3, WIDTH).double()])
    twin = build(spec_of(head)).double()
    twin.load_state_dict(head.state_dict())
    torch.testing.assert_close(twin(queries()), head(queries()), rtol=0, atol=0)


def test_a_class_without_features_never_wins():
    head = fitted(bank(), len(COUNTS) + 1)
    logits = head(queries(64))
    assert not bool((logits.argmax(1) == len(COUNTS)).any())
    torch.testing.assert_close(logits[:, :-1], fitted()(queries(64)))


def test_one_image_of_each_class():
    head = FeCAMHead(3, 3).fit(SimpleNamespace(features=torch.eye(3), labels=[0, 1, 2]))
    assert head(torch.eye(3)).argmax(1).tolist() == [0, 1, 2]


def test_under_autocast():
    head = fitted().float()
    features = queries().detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head(features), head(features.float()), rtol=0, atol=0)
        assert head(features.bfloat16()).dtype == torch.float32


def test_a_fit_that_fails_leaves_the_head_as_it_was():
    head = fitted()
    before, broken = head(queries()).detach(), bank()
    broken.features[-1] = torch.nan
    with pytest.raises(LongTailError, match="NaN or infinity"):
        head.fit(broken)
    torch.testing.assert_close(head(queries()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: fitted(gamma1=0.0, gamma2=0.0, pooled=0.0), "images has no inverse: give a larger gamma1 or pooled"),
        (lambda: fitted(tukey=0.0), "tukey"),
        (lambda: fitted(pooled=-1.0), "pooled"),
        (lambda: fitted(pooled=float("inf")), "pooled"),
        (lambda: FeCAMHead(4, 7).fit(bank()), "5 wide, this head was made for 4"),
        (lambda: FeCAMHead(WIDTH, 7)(queries()), "knows no class yet"),
        (lambda: fitted()(torch.ones(2, 1)), "5 wide, got 1"),
        (lambda: fitted().add_classes([torch.zeros(0, WIDTH)]), r"needs features \(n, 5\)"),
        (lambda: fitted().add_classes([torch.full((2, WIDTH), torch.nan)]), "NaN or infinity"),
        (lambda: fitted().remove_classes(range(7)), "needs at least one"),
        (lambda: fitted().add_classes([]), "No class is given"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(LongTailError, match=message):
        act()
