from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from longtail_lightning import BalancedAccuracy, ExpectedCalibrationError, PerClassAccuracy, ShotAccuracy
from longtail_lightning.losses import LongTailLoss, WrapLoss
from tests.contracts.discover import public_classes
from tests.fuzz.cases import Told, answer, fuzz

LOSSES = [cls for cls in public_classes("losses") if issubclass(cls, LongTailLoss) and cls is not WrapLoss]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=7).filter(any)
NUMBER = st.one_of(
    st.floats(-30, 30), st.floats(-30, 30), st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e30, -1e30])
)


def drawn(data, rows, columns, dtype, clean):
    cell = st.floats(-30, 30) if clean else NUMBER
    values = data.draw(st.lists(cell, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values, dtype=torch.float64).reshape(rows, columns).to(dtype)


@fuzz(st.sampled_from(LOSSES), COUNTS, st.data())
def test_losses(cls, counts, data):
    dtype, clean = data.draw(st.sampled_from(DTYPES)), data.draw(st.booleans())
    rows, off = data.draw(st.integers(0, 5)), data.draw(st.sampled_from([0, 0, 0, 1]))
    columns = len(counts) + off
    logits = drawn(data, rows, columns, dtype, clean).requires_grad_()
    soft = data.draw(st.booleans())
    if cls.multi_label or soft:
        target = torch.rand(rows, columns)
        target = (target > 0.5).float() if cls.multi_label else target / target.sum(1, keepdim=True)
    else:
        target = torch.tensor(data.draw(st.lists(st.integers(-1, columns), min_size=rows, max_size=rows)), dtype=int)
    options = {}
    if "weighting" in cls.__init__.__kwdefaults__:
        options["weighting"] = data.draw(st.sampled_from(["none", "inverse", "effective(0.9)", "odd"]))
    found = answer(lambda: cls(counts, **options).eval()(logits, target))
    if found is Told or not clean:
        return
    assert found.ndim == 0
    assert bool(found.isfinite())
    assert bool(torch.autograd.grad(found, logits)[0].isfinite().all())
    if cls.__name__ == "CrossEntropyLoss" and options["weighting"] == "none":
        torch.testing.assert_close(
            found.double(), F.cross_entropy(logits.double(), target.double() if soft else target), rtol=1e-3, atol=1e-3
        )


def accuracy_by_hand(logits, target, num_classes, top_k):
    values = []
    for c in range(num_classes):
        of_class = [row.tolist() for row, label in zip(logits, target) if label == c]
        right = 0
        for row in of_class:
            if any(value != value for value in row) or all(value == -math.inf for value in row):
                continue
            order = sorted(range(num_classes), key=lambda place: (-row[place], place))
            right += c in order[:top_k]
        values.append(right / len(of_class) if of_class else None)
    return values


@fuzz(COUNTS, st.data())
def test_metrics(counts, data):
    num_classes, rows = len(counts), data.draw(st.integers(0, 6))
    logits = drawn(data, rows, num_classes, torch.float64, False)
    low, high = data.draw(st.sampled_from([(0, num_classes - 1), (-1, num_classes)]))
    target = torch.tensor(data.draw(st.lists(st.integers(low, high), min_size=rows, max_size=rows)), dtype=int)
    top_k = data.draw(st.integers(0, num_classes + 1))

    def evaluate(make):
        def call():
            metric = make()
            metric.update(logits, target)
            return metric.compute()

        return answer(call)

    per_class = evaluate(lambda: PerClassAccuracy(num_classes, top_k))
    valid = 1 <= top_k <= num_classes and all(0 <= label < num_classes for label in target.tolist())
    assert (per_class is not Told) == valid
    if valid and top_k == 1:
        expected = accuracy_by_hand(logits, target.tolist(), num_classes, 1)
        found = [None if value != value else value for value in per_class.reshape(-1).tolist()]
        assert all((a is None) == (b is None) and (a is None or abs(a - b) < 1e-6) for a, b in zip(expected, found))
        known = [value for value in expected if value is not None]
        for metric in (lambda: BalancedAccuracy(num_classes), lambda: ShotAccuracy(counts)):
            value = evaluate(metric)
            value = float(value["acc"] if isinstance(value, dict) else value)
            assert abs(value - sum(known) / len(known)) < 1e-6 if known else value != value
    error = evaluate(lambda: ExpectedCalibrationError(num_classes))
    assert error is Told or rows == 0 or 0 <= float(error) <= 1 + 1e-6
