from __future__ import annotations

import inspect

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import CrossEntropyLoss, DistributionBalancedLoss, LDAMLoss, WrapLoss
from longtail_lightning.losses.weighting import class_weights
from tests.contracts.discover import public_classes
from tests.reference import losses as reference

COUNTS = [40, 20, 10, 4, 1]
WEIGHTINGS = ["none", "inverse", "inverse_sqrt", "inverse_log", "effective", "effective(0.99)"]
each_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS)


def batch():
    return torch.randn(12, 5, dtype=torch.float64), torch.arange(12) % 5


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("none", [1.0, 1.0, 1.0]),
        ("inverse", [1 / 100, 1 / 10, 1.0]),
        ("inverse_sqrt", [1 / 10, 10**-0.5, 1.0]),
        ("inverse_log", [0.2171472, 0.4342945, 1.4426950]),  # a single image weighs as much as two
        ("effective(0.9)", [0.1 / (1 - 0.9**100), 0.1 / (1 - 0.9**10), 1.0]),
        ("effective", [1e-4 / (1 - 0.9999**100), 1e-4 / (1 - 0.9999**10), 1.0]),
    ],
)
def test_weights_are_those_of_the_papers_up_to_scale(weighting, expected):
    weights = class_weights(torch.tensor([100, 10, 1]), weighting, dtype=torch.float64)
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(weights / weights[2], expected / expected[2], rtol=1e-6, atol=0)


@each_weighting
def test_scale_is_what_normalize_says(weighting):
    counts = torch.tensor(COUNTS)
    by_class = class_weights(counts, weighting, normalize="batch", dtype=torch.float64)
    by_image = class_weights(counts, weighting, normalize="global", dtype=torch.float64)
    assert by_class.sum().item() == pytest.approx(5)
    assert (counts * by_image).sum().item() == pytest.approx(75)
    # The mean divides by the weights, whatever their scale; sums and single losses are in that of "batch".
    assert torch.equal(class_weights(counts, weighting, normalize="weight_sum", dtype=torch.float64), by_class)


@each_weighting
def test_classes_without_images_get_a_finite_weight(weighting):
    for counts in ([5, 0], [1, 0], [1, 1], [10**9, 0]):
        assert bool(class_weights(torch.tensor(counts), weighting).isfinite().all())


@given(factor=st.integers(1, 1000), counts=st.lists(st.integers(1, 1000), min_size=2, max_size=6))
def test_inverse_weights_do_not_see_the_scale_of_the_counts(factor, counts):
    counts = torch.tensor(counts)
    for weighting in ("inverse", "inverse_sqrt"):
        for normalize in ("batch", "weight_sum", "global"):
            one = class_weights(counts, weighting, normalize=normalize, dtype=torch.float64)
            scaled = class_weights(factor * counts, weighting, normalize=normalize, dtype=torch.float64)
            torch.testing.assert_close(one, scaled)


@pytest.mark.parametrize("beta", ["0", "1", "2", "-0.5", "nan", "x", ""])
def test_a_weighting_that_does_not_exist_is_refused_when_assigned(beta):
    loss = CrossEntropyLoss(COUNTS)
    for wrong in (f"effective({beta})", f"effective({beta}", f"({beta})", "inverted"):
        with pytest.raises(LongTailError, match=r"Unknown weighting .* choose 'none', 'inverse'"):
            loss.weighting = wrong
    with pytest.raises(LongTailError, match="choose 'batch', 'weight_sum' or 'global'"):
        CrossEntropyLoss(normalize="mean")


@each_weighting
def test_weight_sum_is_the_weighted_mean_of_torch(weighting):
    logits, target = batch()
    loss = CrossEntropyLoss(COUNTS, weighting=weighting, normalize="weight_sum")
    weights = class_weights(torch.tensor(COUNTS), weighting, dtype=torch.float64)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target, weight=weights))


def test_only_a_mean_divides_by_the_weights():
    logits, target = batch()
    weights = class_weights(torch.tensor(COUNTS), "inverse", normalize="weight_sum", dtype=torch.float64)
    for reduction in ("sum", "none"):
        loss = CrossEntropyLoss(COUNTS, weighting="inverse", normalize="weight_sum", reduction=reduction)
        expected = F.cross_entropy(logits, target, weight=weights, reduction=reduction)
        torch.testing.assert_close(loss(logits, target), expected)


@pytest.mark.parametrize("normalize", ["weight_sum", "batch", "global"])
def test_a_one_hot_target_is_normalized_like_a_class_index(normalize):
    # F.cross_entropy divides by the weights for indices and by the batch size for probabilities.
    logits, target = batch()
    loss = CrossEntropyLoss(COUNTS, weighting="inverse", normalize=normalize)
    torch.testing.assert_close(loss(logits, F.one_hot(target, 5).double()), loss(logits, target))


def test_the_others_divide_by_the_batch_size():
    logits, target = batch()
    for normalize in ("batch", "global"):
        weights = class_weights(torch.tensor(COUNTS), "inverse", normalize=normalize, dtype=torch.float64)
        expected = F.cross_entropy(logits, target, weight=weights, reduction="sum") / len(target)
        torch.testing.assert_close(
            CrossEntropyLoss(COUNTS, weighting="inverse", normalize=normalize)(logits, target), expected
        )


SOFT = [cls for cls in public_classes("losses") if getattr(cls, "accepts_soft_targets", False)]
SOFT = [cls for cls in SOFT if "weighting" in inspect.signature(cls).parameters and cls is not WrapLoss]


def mixed():
    logits, _ = batch()
    soft = torch.rand(len(logits), len(COUNTS), dtype=torch.float64) * (torch.rand(len(logits), len(COUNTS)) > 0.5)
    soft[:, 0] += 0.1
    return logits.requires_grad_(), soft / soft.sum(1, keepdim=True)


@pytest.mark.parametrize("weighting", ["inverse", "inverse_sqrt", "effective(0.99)"])
def test_soft_targets_are_weighted_as_torch_does(weighting):
    logits, soft = mixed()
    weights = class_weights(torch.tensor(COUNTS), weighting, dtype=torch.float64)
    for reduction in ("none", "mean", "sum"):
        ours = CrossEntropyLoss(COUNTS, weighting=weighting, reduction=reduction)(logits, soft)
        theirs = F.cross_entropy(logits, soft, weight=weights, reduction=reduction)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(
            *(torch.autograd.grad(value.sum(), logits, retain_graph=True)[0] for value in (ours, theirs))
        )


@pytest.mark.parametrize("cls", SOFT, ids=lambda cls: cls.__name__)
def test_a_soft_target_mixes_weighted_losses(cls):
    """Mixup, as its authors train it: each class's own loss, with its own weight."""
    logits, soft = mixed()
    weights = class_weights(torch.tensor(COUNTS), "inverse", dtype=torch.float64)
    loss, plain = (cls(COUNTS, weighting=w, reduction="none").eval() for w in ("inverse", "none"))
    expected = 0
    for c in range(len(COUNTS)):
        expected = expected + soft[:, c] * weights[c] * plain(logits, torch.full((len(logits),), c))
    value = loss(logits, soft)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each.sum(), logits)[0] for each in (value, expected)))


def test_a_mixture_is_weighted_as_typed_from_the_paper():
    logits, soft = mixed()
    value = CrossEntropyLoss(COUNTS, weighting="inverse", reduction="none")(logits, soft)
    expected = reference.weighted_mixup(logits, soft, COUNTS)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(each.sum(), logits)[0] for each in (value, expected)))


def test_two_mixed_classes_pull_by_their_weights():
    """At equal logits, a 50/50 mix of a common and a rare class pulls toward the rare one."""
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    CrossEntropyLoss([99, 1], weighting="inverse")(logits, torch.tensor([[0.5, 0.5]])).backward()
    assert logits.grad[0, 0] == -logits.grad[0, 1]
    weights = class_weights(torch.tensor([99, 1]), "inverse", dtype=torch.float64)
    assert float(logits.grad[0, 0]) == pytest.approx(float(weights[1] - weights[0]) / 4)


def test_the_weight_of_a_soft_target():
    logits, soft = mixed()
    mean = CrossEntropyLoss(COUNTS, weighting="inverse", normalize="weight_sum")(logits, soft)
    each = CrossEntropyLoss(COUNTS, weighting="inverse", normalize="batch", reduction="none")(logits, soft)
    weights = class_weights(torch.tensor(COUNTS), "inverse", normalize="batch", dtype=torch.float64)
    torch.testing.assert_close(mean, each.sum() / (soft @ weights).sum())


def test_assignment_switches_it_during_training():
    logits, target = batch()
    loss = LDAMLoss(COUNTS, normalize="batch")
    loss.weighting = "effective(0.9999)"
    torch.testing.assert_close(
        loss(logits, target), LDAMLoss(COUNTS, weighting="effective(0.9999)", normalize="batch")(logits, target)
    )
    loss.weighting = "none"
    torch.testing.assert_close(loss(logits, target), LDAMLoss(COUNTS)(logits, target))


def test_weighting_needs_counts_and_one_loss_per_sample():
    logits, target = batch()
    with pytest.raises(LongTailError, match="CrossEntropyLoss needs class_counts: pass"):
        CrossEntropyLoss(weighting="inverse")(logits, target)
    with pytest.raises(LongTailError, match="WrapLoss has weighting='inverse' but gives one loss for the whole batch"):
        WrapLoss(torch.nn.CrossEntropyLoss(), COUNTS, weighting="inverse")(logits, target)
    wrapped = WrapLoss(torch.nn.CrossEntropyLoss(reduction="none"), COUNTS, weighting="inverse")
    torch.testing.assert_close(wrapped(logits, target), CrossEntropyLoss(COUNTS, weighting="inverse")(logits, target))
    with pytest.raises(LongTailError, match="balances its labels by itself"):
        DistributionBalancedLoss(COUNTS).weighting = "inverse"


# -- several ranks -----------------------------------------------------------------------------------


def gradient_of_my_shard(normalize):
    """Gradient as DDP averages it; rank r holds every second image."""
    rank, size = dist.get_rank(), dist.get_world_size()
    gradient = gradient_of_rows(normalize, rank, size)
    dist.all_reduce(gradient)
    return (gradient / size).tolist()


def gradient_of_rows(normalize, first, step):
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(12, 3, dtype=torch.float64, generator=generator)
    weight = torch.randn(3, 5, dtype=torch.float64, generator=generator).requires_grad_()
    target = torch.tensor([0, 4, 0, 3, 0, 2, 0, 4, 0, 4, 1, 4])
    loss = CrossEntropyLoss(COUNTS, weighting="inverse", normalize=normalize)
    loss(features[first::step] @ weight, target[first::step]).backward()
    return weight.grad


@pytest.mark.parametrize("normalize", ["global", "batch"])
def test_gradients_of_two_ranks_are_those_of_one(pool, normalize):
    one = gradient_of_rows(normalize, 0, 1)
    for gradient in pool.run(gradient_of_my_shard, normalize):
        torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), one)


def test_the_weighted_mean_of_torch_changes_gradients_on_two_ranks(pool):
    # Why "weight_sum" is not the default, although F.cross_entropy(weight=...) does it.
    one = gradient_of_rows("weight_sum", 0, 1)
    two = torch.tensor(pool.run(gradient_of_my_shard, "weight_sum")[0], dtype=torch.float64)
    assert float((one - two).abs().max()) > 0.01 * float(one.abs().max())
