from __future__ import annotations

import copy
import inspect
import time
from dataclasses import FrozenInstanceError, fields, replace
from functools import partial

import pytest
import torch
from torch import nn

from longtail_lightning import (
    ClassAwareSampler,
    ClassBalancedSampler,
    CosineHead,
    CrossEntropyLoss,
    DistributionBalancedLoss,
    FeatureBank,
    HeadTraining,
    InstanceBalancedSampler,
    LDAMLoss,
    LearnableScaleHead,
    LinearHead,
    LogitAdjustedLoss,
    ProgressivelyBalancedSampler,
    RepeatFactorSampler,
    WrapLoss,
    fit_head,
    long_tail_counts,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning.features import _head_batches
from longtail_lightning.features._evaluate import mean_class_accuracy
from longtail_lightning.features.fit_head import train_head
from tests.reference.training import sgd

COUNTS = [14, 6, 3, 1]
LABELS = [c for c, count in enumerate(COUNTS) for _ in range(count)]


def bank(views=1, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return FeatureBank.from_arrays((torch.randn(views, len(LABELS), 5, dtype=torch.float64)).to(dtype), LABELS)


def linear(seed=1, classes=4):
    torch.manual_seed(seed)
    return LinearHead(5, classes)


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("make", [ClassBalancedSampler, InstanceBalancedSampler, partial(ClassAwareSampler)])
def test_equals_gradient_descent_typed_by_hand(make, views):
    made, head = bank(views), linear().double()
    weight, bias = head.weight.tolist(), head.bias.tolist()
    sampler = make(LABELS)
    sampler.seed = 7
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        items = [(made.view(epoch)[index].tolist(), LABELS[index]) for index in sampler]
        epochs.append([items[start : start + 8] for start in range(0, len(items), 8)])
    options = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.01}
    expected, expected_bias = sgd(weight, bias, epochs, total_steps=sum(map(len, epochs)), **options)
    fitted = fit_head(made, head, epochs=3, batch_size=8, sampler=make, seed=7, **options)
    assert fitted is head
    torch.testing.assert_close(head.weight.tolist(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(head.bias.tolist(), expected_bias, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("views", [1, 3])
def test_streamed_from_the_file_is_the_same(tmp_path, monkeypatch, dtype, views):
    made = bank(views, dtype)
    memory = fit_head(made, linear(), batch_size=8)
    mapped = FeatureBank.load(made.save(tmp_path))
    copied = fit_head(mapped, linear(), batch_size=8)
    asked = []
    monkeypatch.setattr(_head_batches, "free_memory", lambda device: asked.append(device) or 2 * 5 * len(LABELS))
    streamed = fit_head(mapped, linear(), batch_size=8)
    assert asked
    assert _head_batches._placed(mapped, 0, torch.device("cpu")).data_ptr() == mapped.features.data_ptr()
    assert same(memory, copied)
    assert same(memory, streamed)


def test_repeats_and_leaves_the_generators_alone():
    def head():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 4))

    made, first = bank(dtype=torch.float32), head()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit_head(made, first, seed=2, batch_size=8)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert same(fit_head(made, head(), seed=2, batch_size=8), first)
    assert not same(fit_head(made, head(), seed=3, batch_size=8), first)
    own = partial(ClassBalancedSampler, seed=5)
    firsts = [fit_head(made, linear(), sampler=own, seed=seed, batch_size=8) for seed in (0, 1)]
    assert same(*firsts), "a sampler with a seed of its own keeps it"


def test_only_what_requires_gradients_is_trained_and_modes_come_back():
    head = linear().eval()
    head.weight.requires_grad_(False)
    before = copy.deepcopy(head)
    fit_head(bank(dtype=torch.float32), head, batch_size=8)
    assert torch.equal(head.weight, before.weight)
    assert not torch.equal(head.bias, before.bias)
    assert not head.training


def test_a_balanced_head_finds_the_rare_class():
    torch.manual_seed(0)
    labels = torch.tensor([0] * 400 + [1] * 4)
    features = torch.randn(404, 3) + 1.5 * labels[:, None]
    made = FeatureBank.from_arrays(features, labels)
    test_labels = torch.tensor([0, 1] * 200)
    test = FeatureBank.from_arrays(torch.randn(400, 3) + 1.5 * test_labels[:, None], test_labels)
    balanced = fit_head(made, LinearHead(3, 2))
    plain = fit_head(made, LinearHead(3, 2), sampler=InstanceBalancedSampler)
    assert mean_class_accuracy(balanced, test) > mean_class_accuracy(plain, test) + 0.1


def test_any_sampler_loss_and_optimizer():
    made = bank(dtype=torch.float32)
    progressive = partial(ProgressivelyBalancedSampler, epochs=4)
    fitted = fit_head(made, linear(), sampler=progressive, loss=LogitAdjustedLoss(), epochs=4, batch_size=8)
    assert not same(fitted, fit_head(made, linear(), sampler=progressive, epochs=4, batch_size=8))
    fit_head(made, CosineHead(5, 4), loss=LDAMLoss(), optimizer=partial(torch.optim.AdamW, lr=0.01), batch_size=8)
    random = torch.utils.data.RandomSampler
    assert same(
        fit_head(made, linear(), sampler=random, batch_size=8), fit_head(made, linear(), sampler=random, batch_size=8)
    )


def test_counts_that_a_loss_was_given_stay():
    loss = LogitAdjustedLoss([1, 1, 1, 1])
    fit_head(bank(dtype=torch.float32), linear(), loss=loss, batch_size=8, epochs=1)
    assert loss.class_counts.tolist() == [1, 1, 1, 1]


def test_a_loss_is_bound_to_each_bank_anew():
    even = bank(dtype=torch.float32)
    first = [int((even.labels == c).nonzero()[0]) for c in range(4)]
    tail = even.subset(sorted({*first, *(even.labels == 0).nonzero().flatten().tolist()}))
    loss = LogitAdjustedLoss()
    options = {"sampler": InstanceBalancedSampler, "batch_size": 8, "epochs": 2}
    fit_head(even, linear(), loss=loss, **options)
    assert loss.class_counts is None
    expected = fit_head(tail, linear(), loss=LogitAdjustedLoss(), **options)
    assert same(fit_head(tail, linear(), loss=loss, **options), expected)


def test_the_learning_rate_falls_along_a_cosine():
    rates = []

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    fit_head(bank(dtype=torch.float32), linear(), epochs=2, batch_size=12, optimizer=partial(Watch, lr=1.0))
    expected = (1 + torch.cos(torch.pi * torch.arange(4) / 4)) / 2
    torch.testing.assert_close(torch.tensor(rates), expected)


def test_the_best_epoch_on_validation_is_kept():
    made = bank(dtype=torch.float32)
    # Labels turned round: whatever is learned on the bank makes this one worse.
    upside_down = FeatureBank.from_arrays(made.features, made.labels.roll(12))
    plain = fit_head(made, linear(), batch_size=8, epochs=30)
    chosen = fit_head(made, linear(), batch_size=8, epochs=30, val=upside_down)
    assert mean_class_accuracy(chosen, upside_down) > mean_class_accuracy(plain, upside_down)
    assert mean_class_accuracy(chosen, upside_down) >= mean_class_accuracy(
        fit_head(made, linear(), batch_size=8, epochs=1, lr=1e-9), upside_down
    )


def test_a_loss_may_learn_too():
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.temperature = nn.Parameter(torch.tensor(1.0))

        def forward(self, logits, target):
            return nn.functional.cross_entropy(logits / self.temperature, target)

    loss = Tempered()
    fit_head(bank(dtype=torch.float32), linear(), loss=loss, epochs=1)
    assert loss.temperature.item() != 1.0


def test_of_equal_epochs_the_first_is_kept():
    made = bank(dtype=torch.float32)
    states = []

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            states.append([p.detach().clone() for p in self.param_groups[0]["params"]])

    one_class = made.subset(made.labels == 0)
    head = linear()
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.zero_()[0] = 1000.0  # right on all of them, whatever is learned
    fit_head(made, head, batch_size=len(made), epochs=4, val=one_class, optimizer=partial(Watch, lr=0.01))
    assert len(states) == 4
    assert any(torch.equal(head.weight, weight) for weight, _ in states[:1])


def test_a_nan_is_a_wrong_answer():
    class Half(nn.Module):
        def forward(self, features):
            logits = features.clone()
            logits[::2] = torch.nan
            return logits

    made = FeatureBank.from_arrays(torch.eye(3)[[0, 0, 1, 1]], [0, 0, 1, 1], num_classes=3)
    assert mean_class_accuracy(Half(), made) == 0.5


def test_nothing_is_dropped_out_when_accuracy_is_measured():
    made = FeatureBank.from_arrays(torch.eye(3)[[0, 1, 2, 2]], [0, 1, 2, 2])
    head = nn.Sequential(nn.Identity(), nn.Dropout(1.0)).train()
    assert mean_class_accuracy(head, made) == 1.0


def test_mean_class_accuracy_leaves_absent_classes_out():
    head = nn.Linear(3, 3, bias=False)
    nn.init.eye_(head.weight)
    made = FeatureBank.from_arrays(torch.eye(3)[[0, 0, 1, 1, 1]], [0, 1, 1, 1, 0], num_classes=3)
    assert mean_class_accuracy(head, made) == pytest.approx((1 / 2 + 2 / 3) / 2)


class ClosedForm(nn.Module):
    def fit(self, bank, class_counts):
        self.seen = bank, class_counts


def test_a_closed_form_is_fitted():
    made = bank()
    head = fit_head(made, ClosedForm())
    assert head.seen == (made, made.class_counts)


def test_classes_without_features_are_told_and_finite():
    made = FeatureBank.from_arrays(torch.randn(6, 5), [0, 0, 2, 2, 2, 0], num_classes=4, class_names=list("abcd"))
    with pytest.warns(UserWarning, match=r"no feature of 2 of 4 classes \(b, d\): the head cannot learn them"):
        head = fit_head(made, linear())
    assert bool(head.weight.isfinite().all())


MULTI_HOT = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]])


def test_multi_hot_labels_are_trained_with_binary_cross_entropy():
    made = FeatureBank.from_arrays(torch.randn(6, 5, dtype=torch.float64), MULTI_HOT)
    head = linear(classes=3).double()
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    fit_head(made, head, epochs=1, batch_size=6, lr=0.3, momentum=0.0, weight_decay=0.0)
    # One step, by hand: the gradient of the mean over all 18 answers.
    wrong = (torch.sigmoid(made.features @ weight.T + bias) - MULTI_HOT) / MULTI_HOT.numel()
    torch.testing.assert_close(head.weight, weight - 0.3 * wrong.T @ made.features)
    torch.testing.assert_close(head.bias, bias - 0.3 * wrong.sum(0))


def test_multi_hot_labels_with_losses_and_samplers_that_take_them():
    made = FeatureBank.from_arrays(torch.randn(60, 5), MULTI_HOT.repeat(10, 1))
    options = {"epochs": 2, "batch_size": 8}
    plain = fit_head(made, linear(classes=3), **options)
    assert same(fit_head(made, linear(classes=3), loss=WrapLoss(nn.BCEWithLogitsLoss()), **options), plain)
    own = {"loss": DistributionBalancedLoss(), "sampler": RepeatFactorSampler}
    balanced = fit_head(made, linear(classes=3), **own, **options)
    assert not same(balanced, plain)
    own["loss"] = DistributionBalancedLoss(made.class_counts)
    assert same(fit_head(made, linear(classes=3), **own, **options), balanced)
    for wrong, message in (
        ({"loss": CrossEntropyLoss()}, "CrossEntropyLoss takes one label per input, .* multi-hot: use DistributionBal"),
        ({"sampler": ClassBalancedSampler}, "labels must be 1-D"),
        ({"val": made}, "The choice of the best epoch needs one label per input"),
    ):
        with pytest.raises(LongTailError, match=message):
            fit_head(made, linear(classes=3), **wrong)


def test_a_bank_without_labels_trains_no_head():
    with pytest.raises(LongTailError, match="The training of a head needs labels, and the bank has none: make it with"):
        fit_head(FeatureBank.from_arrays(torch.zeros(3, 5)), linear())


def test_settings_are_a_value():
    training = HeadTraining(epochs=3, batch_size=8, seed=5)
    made = bank(dtype=torch.float32)
    assert same(train_head(made, linear(), training), fit_head(made, linear(), epochs=3, batch_size=8, seed=5))
    assert training == HeadTraining(epochs=3, batch_size=8, seed=5)
    with pytest.raises(FrozenInstanceError):
        training.epochs = 4
    with pytest.raises(LongTailError, match="epochs=0 must be at least 1"):
        replace(training, epochs=0)


def test_the_settings_are_the_arguments():
    parameters = inspect.signature(fit_head).parameters
    for field in fields(HeadTraining):
        assert parameters[field.name].default == field.default, field.name


VAL = FeatureBank.from_arrays(torch.zeros(2, 3), [0, 1])
TEST = FeatureBank.from_arrays(torch.zeros(2, 5), [0, 1], fingerprint={"data": {"name": "Mine", "split": "test"}})


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (
            LinearHead(6, 4),
            {},
            "LinearHead was made for 6 features but the bank has 5: give a head from 5 features to 4",
        ),
        (LinearHead(5, 3), {}, "made for 3 classes but the bank has 4"),
        (nn.Linear(6, 4), {}, "Linear was made for 6 features but the bank has 5"),
        (nn.Linear(5, 3), {}, "Linear was made for 3 classes but the bank has 4"),
        (LearnableScaleHead(LinearHead(6, 4)), {}, "give a head from 5 features to 4 classes"),
        (LinearHead(5, 4), {"val": VAL}, r"The validation bank, FeatureBank\(2 x 3 .* does not go"),
        (LinearHead(5, 4), {"val": TEST}, r"The best epoch is never chosen on test images, and this .* of Mine"),
        (LinearHead(5, 4), {"val": TEST.subset([0])}, "The best epoch is never chosen on test images"),
        (LinearHead(5, 4).requires_grad_(False), {}, "LinearHead has no parameter to train"),
        (LinearHead(5, 4), {"lr": 1e38}, r"LinearHead diverged at lr=1e\+38: use a smaller lr"),
        (LinearHead(5, 4), {"device": "gpu"}, "There is no device 'gpu'"),
        (LinearHead(5, 4), {"loss": LogitAdjustedLoss}, "loss=LogitAdjustedLoss is not a module: give a loss object"),
        (LinearHead(5, 4), {"sampler": ClassBalancedSampler(LABELS)}, r"sampler=ClassBalancedSampler\(\.\.\.\) cannot"),
        (LinearHead(5, 4), {"sampler": ProgressivelyBalancedSampler}, "cannot be called with the labels, .*'epochs'"),
        (LinearHead(5, 4), {"epochs": 0}, "epochs=0 must be at least 1"),
        (LinearHead(5, 4), {"batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_bad_input_is_named_with_the_fix(head, options, message):
    with pytest.raises(LongTailError, match=message):
        fit_head(bank(dtype=torch.float32), head, **options)


def test_the_path_of_a_bank_is_no_bank():
    with pytest.raises(LongTailError, match=r"bank='bank/train' is a path: open the bank, FeatureBank\.load\('bank/tr"):
        fit_head("bank/train", linear())
    with pytest.raises(LongTailError, match="val='bank/val' is a path"):
        fit_head(bank(), linear(), val="bank/val")
    with pytest.raises(LongTailError, match="bank is a Tensor, not a FeatureBank"):
        fit_head(torch.zeros(3, 5), linear())


@pytest.mark.parametrize("head", [LinearHead(5, 6), nn.Linear(5, 6)])
def test_a_head_may_know_of_classes_after_the_last_label(head):
    made, loss = bank(dtype=torch.float32), LogitAdjustedLoss()
    val = FeatureBank.from_arrays(torch.zeros(6, 5), range(6))
    with pytest.warns(UserWarning, match=r"no feature of 2 of 6 classes \(4, 5\)"):
        fit_head(made, head, loss=loss, val=val, batch_size=8)
    assert bool(head.weight.isfinite().all())
    assert (made.num_classes, made.class_counts.tolist()) == (4, COUNTS)
    with pytest.warns(UserWarning, match="no feature of 2 of 6 classes"):
        wide = fit_head(FeatureBank.from_arrays(made.features, LABELS, num_classes=6), linear(classes=6), batch_size=8)
    with pytest.warns(UserWarning, match="no feature of 2 of 6 classes"):
        assert same(fit_head(made, linear(classes=6), batch_size=8), wide)
    named = FeatureBank.from_arrays(made.features, LABELS, class_names=list("abcd"))
    with pytest.raises(LongTailError, match="was made for 6 classes but the bank has 4"):
        fit_head(named, linear(classes=6))


def test_an_epoch_takes_tens_of_milliseconds():
    labels = [c for c, count in enumerate(long_tail_counts(10, 5000, 100)) for _ in range(count)]
    made = FeatureBank.from_arrays(torch.randn(len(labels), 64), labels)
    fit_head(made, LinearHead(64, 10), epochs=1)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        fit_head(made, LinearHead(64, 10), epochs=2)
        times.append((time.perf_counter() - start) / 2)
    # 13 ms on one core; the bound leaves room for a busy machine.
    assert min(times) < 0.15


def test_progress_is_shown_on_demand(capsys):
    fit_head(bank(dtype=torch.float32), linear(), batch_size=8, progress=True)
    shown = capsys.readouterr()
    assert "head" in shown.out + shown.err
    fit_head(bank(dtype=torch.float32), linear(), batch_size=8)
    shown = capsys.readouterr()
    assert not shown.out + shown.err
