from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from longtail_lightning import FeatureBank, NearestClassMeanHead
from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.heads import _bank_blocks
from tests.reference import heads as reference

LABELS = [0, 0, 0, 0, 0, 1, 1, 1, 2, 3]


def bank(dtype=torch.float64, labels=LABELS):
    features = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return SimpleNamespace(features=(features + 2).to(dtype), labels=labels)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_matches_the_formula_forward_and_gradient(metric, monkeypatch):
    monkeypatch.setattr(_bank_blocks, "_ROWS", 3)  # several blocks, classes on both sides of a border
    data = bank()
    head = NearestClassMeanHead(6, 4, metric=metric).double().fit(data)
    center, means = reference.class_means(data.features, LABELS, 4)
    torch.testing.assert_close(head.class_means, means)
    queries = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    expected = reference.nearest_class_mean(queries, center, means, metric)
    torch.testing.assert_close(head(queries), expected)
    torch.testing.assert_close(*[torch.autograd.grad(out.square().sum(), queries) for out in (head(queries), expected)])


def test_the_means_are_not_normalized_again():
    head = NearestClassMeanHead(6, 4).fit(bank())
    assert bool((head.class_means.norm(dim=1)[:2] < 0.99).all())


def test_the_center_is_that_of_the_images_not_of_the_classes():
    data = bank()
    head = NearestClassMeanHead(6, 4).double().fit(data)
    torch.testing.assert_close(head.center_mean, data.features.mean(0))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_center_and_normalize_can_be_left_out(metric):
    data = bank()
    head = NearestClassMeanHead(6, 4, metric=metric, center=False, normalize=False, scale=3.0).double().fit(data)
    mean = torch.stack([data.features[torch.tensor(LABELS) == c].mean(0) for c in range(4)])
    torch.testing.assert_close(head.class_means, mean)
    query = torch.randn(2, 6, dtype=torch.float64)
    if metric == "euclidean":
        torch.testing.assert_close(head(query), -3.0 * torch.cdist(query, mean).square())


def test_both_rules_of_the_paper_are_the_cosine_of_features_as_they_are():
    data = bank()
    queries = torch.randn(200, 6, dtype=torch.float64) + 2
    cosines, distances = reference.papers_nearest_class_mean(queries, data.features, LABELS, 4)
    head = NearestClassMeanHead(6, 4, center=False, normalize=False).double().fit(data)
    torch.testing.assert_close(head(queries), cosines)
    assert torch.equal(head(queries).argmax(1), distances.argmax(1)), "the Euclidean rule gives the same answers"
    units = queries / queries.norm(dim=1, keepdim=True)
    _, of_units = reference.papers_nearest_class_mean(units, data.features, LABELS, 4)
    assert torch.equal(head(queries).argmax(1), of_units.argmax(1)), "whether or not the queries are normalized"
    for options in ({}, {"metric": "euclidean"}, {"center": False}):
        other = NearestClassMeanHead(6, 4, **options).double().fit(data)
        assert not torch.equal(other(queries).argmax(1), cosines.argmax(1)), options


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_class_without_features_never_wins(metric, dtype):
    head = NearestClassMeanHead(6, 6, metric=metric).fit(bank(torch.float32)).to(dtype)
    queries = torch.randn(200, 6, requires_grad=True)
    logits = head(queries.to(dtype))
    assert head.class_sizes.tolist() == [5, 3, 1, 1, 0, 0]
    assert bool(logits.isfinite().all())
    assert int(logits.argmax(1).max()) < 4
    assert not bool(logits.softmax(1)[:, 4:].any())
    torch.nn.functional.cross_entropy(logits, torch.full((200,), 5)).backward()
    assert bool(queries.grad.isfinite().all())


def test_a_half_precision_bank_on_disk_is_read_alike(tmp_path):
    data = bank(torch.float16)
    expected = NearestClassMeanHead(6, 4).fit(data).class_means
    mapped = FeatureBank.load(FeatureBank.from_arrays(data.features, LABELS).save(tmp_path / "bank"))
    torch.testing.assert_close(NearestClassMeanHead(6, 4).fit(mapped).class_means, expected)
    assert expected.dtype == torch.float32


def test_what_cannot_be_fitted_is_told():
    data = bank()
    with pytest.raises(LongTailError, match="labels from 0 to 3, this head was made for 3 classes"):
        NearestClassMeanHead(6, 3).fit(data)
    with pytest.raises(LongTailError, match="features are 6 wide, this head was made for 5"):
        NearestClassMeanHead(5, 4).fit(data)
    data.features[[2, 7]] = torch.nan
    with pytest.raises(LongTailError, match="hold NaN or infinity: make a FeatureBank"):
        NearestClassMeanHead(6, 4).fit(data)
    with pytest.raises(LongTailError, match=r"no class means yet: call head\.fit\(bank\)"):
        NearestClassMeanHead(6, 4)(torch.zeros(1, 6))
    for wrong, words in (({"metric": "dot"}, "choose 'cosine'"), ({"scale": 0.0}, "finite scale above 0")):
        with pytest.raises(LongTailError, match=words):
            NearestClassMeanHead(6, 4, **wrong)


def test_a_fitted_head_comes_back_from_spec_and_state_dict():
    head = NearestClassMeanHead(6, 5, metric="euclidean", scale=2.0).fit(bank(torch.float32))
    twin = build(spec_of(head))
    twin.load_state_dict(head.state_dict())
    queries = torch.randn(3, 6)
    torch.testing.assert_close(twin(queries), head(queries))
