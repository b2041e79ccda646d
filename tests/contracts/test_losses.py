"""What holds for every loss, found by discovery."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.losses import LongTailLoss, WrapLoss
from tests.contracts.discover import COUNTS, NUM_CLASSES, make, public_classes

LOSSES = public_classes("losses")
each_loss = pytest.mark.parametrize("cls", LOSSES, ids=lambda cls: cls.__name__)
each_formula = pytest.mark.parametrize("cls", [c for c in LOSSES if c is not WrapLoss], ids=lambda cls: cls.__name__)


def batch(dtype=torch.float64, size=12):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(size, NUM_CLASSES, generator=generator, dtype=dtype)
    return logits, torch.arange(size) % NUM_CLASSES


@each_loss
def test_takes_class_counts_first_and_the_rest_by_keyword(cls):
    parameters = [p for name, p in inspect.signature(cls).parameters.items() if name != "loss"]
    assert parameters[0].name == "class_counts"
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[1:])
    assert issubclass(cls, LongTailLoss)


@each_loss
def test_survives_pickle_and_deepcopy(cls):
    loss = make(cls, class_counts=COUNTS)
    logits, target = batch()
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        torch.testing.assert_close(twin(logits, target), loss(logits, target))


@each_loss
def test_rebuilds_from_its_spec(cls):
    loss = make(cls, class_counts=COUNTS)
    twin = build(spec_of(loss)).bind_class_counts(COUNTS)
    logits, target = batch()
    torch.testing.assert_close(twin(logits, target), loss(logits, target))


@each_loss
def test_state_dict_holds_no_counts_and_loads_weights_only(cls):
    loss = make(cls, class_counts=COUNTS)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    make(cls).load_state_dict(torch.load(buffer, weights_only=True))
    assert "class_counts" not in loss.state_dict()


@each_formula
def test_reductions_agree(cls):
    logits, target = batch()
    each = make(cls, class_counts=COUNTS, reduction="none")(logits, target)
    assert each.shape == target.shape
    torch.testing.assert_close(make(cls, class_counts=COUNTS, reduction="sum")(logits, target), each.sum())
    torch.testing.assert_close(make(cls, class_counts=COUNTS)(logits, target), each.mean())


@each_formula
def test_order_of_the_batch_does_not_matter(cls):
    logits, target = batch()
    order = torch.randperm(len(target))
    loss = make(cls, class_counts=COUNTS)
    torch.testing.assert_close(loss(logits[order], target[order]), loss(logits, target))


@each_formula
def test_gradcheck(cls):
    logits, target = batch()
    loss = make(cls, class_counts=COUNTS)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


@each_formula
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(cls, dtype):
    logits, target = batch(torch.float32)
    loss = make(cls, class_counts=COUNTS)
    half = (30 * logits).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        value = loss(half, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), target))
    value.backward()
    assert half.grad.dtype == dtype
    assert bool(half.grad.isfinite().all())


@each_formula
def test_counts_survive_a_cast_of_the_module(cls):
    logits, target = batch(torch.float32)
    loss = make(cls, class_counts=[300_001, 20_003, 1001, 33, 1])
    expected = loss(logits, target)
    torch.testing.assert_close(loss.half()(logits, target), expected, rtol=0, atol=0)


@each_formula
def test_used_unbound_says_how_to_bind(cls):
    logits, target = batch()
    loss = make(cls)
    if not cls.needs_class_counts:
        assert bool(loss(logits, target).isfinite())
        return
    with pytest.raises(LongTailError, match=f"{cls.__name__} needs class_counts: pass {cls.__name__}"):
        loss(logits, target)
    assert bool(loss.bind_class_counts(COUNTS)(logits, target).isfinite())


@each_formula
@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 1]), "class_counts of 5 classes but the logits have 3"),
        (torch.zeros(2, 5), torch.tensor([0, 5]), "label 5, outside 0..4"),
        (torch.zeros(2, 5), torch.tensor([-1, 0]), "label -1, outside 0..4"),
        (torch.zeros(2, 5), torch.tensor([0, 1, 2]), r"shape \(2,\), got \(3,\)"),
        (torch.zeros(5), torch.tensor([0]), r"shape \(batch, num_classes\)"),
    ],
)
def test_bad_input_is_named_with_the_fix(cls, logits, target, message):
    with pytest.raises(LongTailError, match=message):
        make(cls, class_counts=COUNTS)(logits, target)


@each_formula
def test_soft_targets_work_or_are_refused(cls):
    logits, target = batch()
    loss = make(cls, class_counts=COUNTS)
    soft = torch.full_like(logits, 1 / NUM_CLASSES)
    if cls.accepts_soft_targets:
        assert bool(loss(logits, soft).isfinite())
        with pytest.raises(LongTailError, match="soft targets of shape"):
            loss(logits, soft[:, :2])
    else:
        with pytest.raises(LongTailError, match="no form for soft targets"):
            loss(logits, soft)


@each_formula
@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10_000), min_size=NUM_CLASSES, max_size=NUM_CLASSES).filter(any),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
)
def test_finite_for_any_counts_and_extreme_logits(cls, counts, scale):
    logits, target = batch(torch.float32)
    logits = (scale * logits).requires_grad_()
    value = make(cls, class_counts=counts)(logits, target)
    value.backward()
    assert bool(value.isfinite())
    assert bool(logits.grad.isfinite().all())


@each_formula
def test_compiles_without_graph_breaks(cls):
    logits, target = batch(torch.float32)
    loss = make(cls, class_counts=COUNTS)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


@each_loss
def test_an_unknown_reduction_is_refused(cls):
    with pytest.raises(LongTailError, match="choose 'mean', 'sum' or 'none'"):
        make(cls, reduction="average")
