from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longtail_lightning import CosineHead, FeatureBank, LinearHead, TauNormalizedHead, learn_tau, select_tau
from longtail_lightning._errors import LongTailError
from longtail_lightning.methods import tau_selection as module
from longtail_lightning.methods.tau_selection import TAUS, tau_correct
from tests.reference import heads as reference

LABELS = [0] * 12 + [1] * 8 + [2] * 4 + [4] * 2  # class 3 has no image


def bank(dtype=torch.float64, labels=LABELS, **options):
    features = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return FeatureBank.from_arrays(features.to(dtype), labels, **options)


def trained_head():
    """Norms that grow with the number of images, as after joint training."""
    head = LinearHead(6, 5).double()
    with torch.no_grad():
        head.weight *= torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)[:, None]
    return head


@pytest.mark.parametrize("bias", ["drop", "keep"])
@pytest.mark.parametrize("blocks", [None, (5, 2)])
def test_one_set_of_logits_gives_what_each_tau_gives_alone(bias, blocks, monkeypatch):
    if blocks is not None:
        monkeypatch.setattr(module, "_QUERIES", blocks[0])
        monkeypatch.setattr(module, "_CLASSES", blocks[1])
    head, data = trained_head(), bank()
    found = select_tau(head, data, bias=bias)
    assert found.taus == list(TAUS)
    for tau, per_class in zip(found.taus, found.per_class):
        logits = TauNormalizedHead(head, tau=tau, bias=bias)(data.features)
        if bias == "drop":
            torch.testing.assert_close(logits, reference.tau_normalized(data.features, head.weight.detach(), tau))
        right = logits.argmax(1) == data.labels
        expected = torch.stack([right[data.labels == c].double().mean() for c in range(5)])
        torch.testing.assert_close(per_class, expected, equal_nan=True)


def test_the_best_mean_over_classes_wins_and_the_first_of_equals():
    head, data = trained_head(), bank()
    found = select_tau(head, data)
    means = [values[[0, 1, 2, 4]].mean().item() for values in found.per_class]
    assert found.tau == found.taus[means.index(max(means))]
    assert [row["all"] for row in found.table] == pytest.approx(means)
    assert select_tau(head, data, [0.3, 0.3 + 1e-12]).tau == 0.3


def test_the_criterion_decides_between_head_and_tail():
    # One weight is long: without normalization it wins everything, which suits the frequent class.
    head = LinearHead(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[8.0, 0.0], [0.0, 1.0]]))
    features = torch.tensor([[3.0, 1.0]] * 6 + [[1.0, 1.1]] * 3 + [[1.0, 2.0]] * 2)
    data = FeatureBank.from_arrays(features, [0] * 9 + [1] * 2)
    assert select_tau(head, data, [0.0, 1.0], criterion="micro").tau == 0.0, "9 of 11 against 8 of 11"
    with pytest.warns(UserWarning, match="The best tau, 1, is the largest of taus: a larger one may be better"):
        assert select_tau(head, data, [0.0, 1.0], criterion="macro").tau == 1.0, "1/2 against 5/6"
    with pytest.warns(UserWarning, match="is the largest of taus"):
        assert select_tau(head, data, [1.0, 0.0], criterion="macro").tau == 1.0, "whatever their order"


def test_the_table_has_a_row_per_tau_and_the_splits():
    head = trained_head()
    found = select_tau(head, bank(), [0.0, 1.0, 2.0], class_counts=[120, 50, 30, 10, 5], many=100, few=8)
    assert [list(row) for row in found.table] == [["tau", "many", "medium", "few", "all"]] * 3
    row, per_class = found.table[1], found.per_class[1]
    assert row["many"] == pytest.approx(per_class[0].item())
    assert row["medium"] == pytest.approx(per_class[[1, 2]].mean().item()), "a class without images is left out"
    assert row["few"] == pytest.approx(per_class[4].item())
    without = select_tau(head, bank(), [1.0]).table[0]
    assert without["few"] is None
    assert without["all"] == row["all"]


def test_mapped_banks_and_half_precision_choose_alike(tmp_path):
    head = trained_head().float()
    expected = select_tau(head, bank(torch.float32))
    mapped = FeatureBank.load(bank(torch.float16).save(tmp_path / "bank"))
    assert select_tau(head, mapped).tau == expected.tau
    low = select_tau(LinearHead(6, 5).bfloat16(), bank(torch.float32), [0.0, 1.0])
    assert bool(low.per_class.isfinite().any())


def test_counts_of_several_blocks_add_up():
    correct, support = tau_correct(trained_head(), bank(), [0.0])
    assert support.tolist() == [12, 8, 4, 0, 2]
    assert bool((correct[0] <= support).all())


@pytest.mark.parametrize("choose", [select_tau, learn_tau])
def test_tau_is_never_chosen_on_test_images(choose):
    # The authors chose it "directly on the testing set" of iNaturalist.
    data = bank(fingerprint={"data": {"name": "SyntheticLongTail", "split": "test"}})
    with pytest.raises(LongTailError, match="never chosen on test images, and this bank holds those of SyntheticLong"):
        choose(trained_head(), data)
    with pytest.raises(LongTailError, match="never chosen on test images"):
        choose(trained_head(), data.subset(range(len(data))).subset([0, 1]))


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (CosineHead(6, 5), {}, "needs a linear classifier .* got CosineHead"),
        (nn.Linear(7, 5), {}, "made for 7 features, the bank's are 6 wide"),
        (nn.Linear(6, 4), {}, "made for 4 classes, the bank has 5"),
        (nn.Linear(6, 5), {"taus": []}, r"taus=\[\] must be a list of finite numbers, at least one"),
        (nn.Linear(6, 5), {"taus": 0.5}, r"taus=0\.5 must be a list of finite numbers"),
        (nn.Linear(6, 5), {"criterion": "few"}, "choose 'macro'"),
    ],
)
def test_wrong_input_is_told(head, options, message):
    with pytest.raises(LongTailError, match=message):
        select_tau(head, bank(torch.float32), **options)


@pytest.mark.parametrize("choose", [select_tau, learn_tau])
def test_the_path_of_a_bank_is_no_bank(choose):
    with pytest.raises(LongTailError, match=r"bank='bank/val' is a path: open the bank, FeatureBank\.load\('bank/val'"):
        choose(trained_head(), "bank/val")


@pytest.mark.parametrize("choose", [select_tau, learn_tau])
def test_an_unknown_way_with_the_bias_is_told(choose):
    with pytest.raises(LongTailError, match="Unknown bias='add': choose 'drop'"):
        choose(trained_head(), bank(), bias="add")


def balanced_loss(head, data, tau):
    """Cross-entropy with each class counting alike: the mean of what class-balanced sampling sees."""
    logits = reference.tau_normalized(data.features, head.weight.detach(), tau)
    losses = F.cross_entropy(logits, data.labels, reduction="none")
    return sum(losses[data.labels == c].mean() for c in data.labels.unique()).item()


def test_the_learned_tau_minimizes_the_balanced_loss():
    data = bank(labels=[0] * 12 + [1] * 8 + [2] * 4 + [3] * 3 + [4] * 2)
    head = trained_head()
    before = head.weight.clone()
    state = torch.get_rng_state()
    tau = learn_tau(head, data, epochs=60, batch_size=32)
    grid = [i / 20 for i in range(-20, 61)]
    best = min(grid, key=lambda value: balanced_loss(head, data, value))
    assert 0.2 < best < 2.8, "a minimum inside, or the comparison says nothing"
    assert tau == pytest.approx(best, abs=0.1)
    assert learn_tau(head, data, epochs=60, batch_size=32) == tau, "a function of the seed"
    assert learn_tau(head, data, epochs=60, batch_size=32, initial=1.5) == pytest.approx(tau, abs=0.05)
    torch.testing.assert_close(head.weight, before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_learned_tau_far_from_the_usual_grid_is_refused():
    data, head = bank(torch.float32, [0] * 12 + [1] * 8 + [2] * 4 + [3] * 3 + [4] * 2), trained_head().float()
    with pytest.raises(LongTailError, match=r"The learned tau, -3\b.*select_tau"):
        learn_tau(head, data, initial=-3.0, lr=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert learn_tau(head, data, initial=2.0, lr=0.0) == 2.0


def test_the_bias_counts_when_it_is_kept():
    data = bank(labels=[0] * 12 + [1] * 8 + [2] * 4 + [3] * 3 + [4] * 2)
    head = trained_head()
    with torch.no_grad():
        head.bias.copy_(torch.tensor([3.0, 1.0, 0.0, -1.0, -3.0]))
    assert learn_tau(head, data, bias="keep") != learn_tau(head, data)


def test_tau_does_not_decay():
    """Weights of one length: no tau changes a logit, so that it stays where it started."""
    head = LinearHead(6, 5, bias=False)
    with torch.no_grad():
        head.weight.copy_(F.normalize(head.weight, dim=1))
    data = bank(torch.float32, [0] * 12 + [1] * 8 + [2] * 4 + [3] * 3 + [4] * 2)
    assert learn_tau(head, data, initial=1.5, epochs=20) == pytest.approx(1.5, abs=1e-4)


def test_of_equal_logits_the_first_class_wins_in_any_block(monkeypatch):
    monkeypatch.setattr(module, "_CLASSES", 2)
    head = LinearHead(6, 5, bias=False)
    with torch.no_grad():
        head.weight.fill_(1.0)
    correct, support = tau_correct(head, FeatureBank.from_arrays(torch.ones(26, 6), LABELS), [0.0, 1.0])
    assert correct.tolist() == [[12, 0, 0, 0, 0]] * 2
    assert support.tolist() == [12, 8, 4, 0, 2]


def test_logits_that_are_nan_are_wrong(monkeypatch):
    monkeypatch.setattr(module, "_CLASSES", 2)
    for row in range(5):
        head = trained_head()
        with torch.no_grad():
            head.weight[row, 0] = torch.nan
        assert not tau_correct(head, bank(), [0.0, 1.0])[0].any()
