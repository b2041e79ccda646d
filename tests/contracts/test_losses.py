"""What holds for every loss, found by discovery."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import build, spec_of
from longtail_lightning.losses import LongTailLoss, WrapLoss
from tests.contracts.discover import COUNTS, NUM_CLASSES, make, public_classes

LOSSES = [cls for cls in public_classes("losses") if issubclass(cls, LongTailLoss)]
# Losses of other arguments than (logits, target), and what they are called with.
WIDTH = 8
PAIRS = {
    "FeatureDistillationLoss": lambda: (rows(), rows()),
    "GroupDistillationLoss": lambda: (rows(NUM_CLASSES), rows(NUM_CLASSES)),
    "HardDistillationLoss": lambda: (rows(NUM_CLASSES), rows(NUM_CLASSES)),
    "LogitDistillationLoss": lambda: (rows(), rows()),
    "ParametricContrastiveLoss": lambda: (rows(), rows(128), rows(128), labels()),
    "SupervisedContrastiveLoss": lambda: (rows(), labels()),
}
each_pair = pytest.mark.parametrize("cls", [c for c in public_classes("losses") if c.__name__ in PAIRS])
each_loss = pytest.mark.parametrize("cls", LOSSES, ids=lambda cls: cls.__name__)
each_formula = pytest.mark.parametrize("cls", [c for c in LOSSES if c is not WrapLoss], ids=lambda cls: cls.__name__)


# Factors that the paper holds constant in the gradient are no part of the function's derivative.
SMOOTH = {"SeesawLoss": {"q": 0.0}}
# Formulas of more than the differences between logits.
SEE_A_SHIFT = {"DistributionBalancedLoss", "LADELoss", "VectorScalingLoss"}
# The effective number of images is one of absolute numbers.
SEE_THE_SCALE_OF_COUNTS = {"ClassBalancedLoss"}
# What is left when all classes are equally frequent, where the paper says that it is cross-entropy.
UNIFORM_IS_CROSS_ENTROPY = {
    "BalancedSoftmaxLoss": {},
    "ClassBalancedLoss": {},
    "CrossEntropyLoss": {},
    "EqualizationLoss": {},
    "FocalLoss": {"gamma": 0.0},
    "GaussianCloudedLoss": {"scale": 1.0},
    "LADELoss": {"alpha": 0.0},
    "LDAMLoss": {"scale": 1.0, "max_margin": 0.0},
    "LabelAwareSmoothingLoss": {},
    "LogitAdjustedLoss": {},
    "SeesawLoss": {"q": 0.0},
    "VectorScalingLoss": {},
}
MARGINS = ["BalancedSoftmaxLoss", "LADELoss", "LDAMLoss", "LogitAdjustedLoss", "SeesawLoss", "VectorScalingLoss"]
WEIGHTED = [cls for cls in LOSSES if cls is not WrapLoss and "weighting" in inspect.signature(cls).parameters]


def rows(width=WIDTH, size=6):
    return torch.randn(size, width, dtype=torch.float64)


def labels(size=6):
    return torch.arange(size) % 3


def formula(cls, **options):
    """A loss without the luck of training: evaluation mode holds random parts still."""
    return make(cls, **options).eval()


def batch(cls, dtype=torch.float64, size=12):
    """Logits, and the targets that the loss takes."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(size, NUM_CLASSES, generator=generator, dtype=dtype)
    target = torch.arange(size) % NUM_CLASSES
    if cls.multi_label:
        target = torch.nn.functional.one_hot(target) | torch.nn.functional.one_hot(target.flip(0), NUM_CLASSES)
    return logits, target


@each_loss
def test_takes_class_counts_first_and_the_rest_by_keyword(cls):
    parameters = [p for name, p in inspect.signature(cls).parameters.items() if name != "loss"]
    assert parameters[0].name == "class_counts"
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[1:])
    assert issubclass(cls, LongTailLoss)


@each_loss
def test_survives_pickle_and_deepcopy(cls):
    loss = formula(cls, class_counts=COUNTS)
    logits, target = batch(cls)
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        torch.testing.assert_close(twin(logits, target), loss(logits, target))


@each_loss
def test_rebuilds_from_its_spec(cls):
    loss = formula(cls, class_counts=COUNTS)
    twin = build(spec_of(loss)).bind_class_counts(COUNTS)
    logits, target = batch(cls)
    torch.testing.assert_close(twin.eval()(logits, target), loss(logits, target))


@each_loss
def test_state_dict_holds_no_counts_and_loads_weights_only(cls):
    loss = formula(cls, class_counts=COUNTS)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    formula(cls).load_state_dict(torch.load(buffer, weights_only=True))
    assert "class_counts" not in loss.state_dict()


@each_formula
def test_reductions_agree(cls):
    logits, target = batch(cls)
    each = formula(cls, class_counts=COUNTS, reduction="none")(logits, target)
    assert each.shape == target.shape[:1]
    torch.testing.assert_close(formula(cls, class_counts=COUNTS, reduction="sum")(logits, target), each.sum())
    torch.testing.assert_close(formula(cls, class_counts=COUNTS)(logits, target), each.mean())


@each_formula
def test_order_of_the_batch_does_not_matter(cls):
    logits, target = batch(cls)
    order = torch.randperm(len(target))
    loss = formula(cls, class_counts=COUNTS)
    torch.testing.assert_close(loss(logits[order], target[order]), loss(logits, target))


@each_formula
def test_gradcheck(cls):
    logits, target = batch(cls)
    loss = formula(cls, class_counts=COUNTS, **SMOOTH.get(cls.__name__, {}))
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


@each_formula
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(cls, dtype):
    logits, target = batch(cls, torch.float32)
    loss = formula(cls, class_counts=COUNTS)
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
    logits, target = batch(cls, torch.float32)
    loss = formula(cls, class_counts=[300_001, 20_003, 1001, 33, 1])
    expected = loss(logits, target)
    torch.testing.assert_close(loss.half()(logits, target), expected, rtol=0, atol=0)


@each_formula
def test_used_unbound_says_how_to_bind(cls):
    logits, target = batch(cls)
    loss = formula(cls)
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
    if cls.multi_label and target.ndim == 1 and logits.shape[-1:] == (5,) and logits.ndim == 2:
        message = "expects multi-hot targets"
    with pytest.raises(LongTailError, match=message):
        formula(cls, class_counts=COUNTS)(logits, target)


@each_formula
def test_soft_targets_work_or_are_refused(cls):
    logits, _ = batch(cls)
    loss = formula(cls, class_counts=COUNTS)
    soft = torch.full_like(logits, 1 / NUM_CLASSES)
    if cls.multi_label:
        assert bool(loss(logits, soft).isfinite())
    elif cls.accepts_soft_targets:
        assert bool(loss(logits, soft).isfinite())
        with pytest.raises(LongTailError, match="soft targets of shape"):
            loss(logits, soft[:, :2])
    else:
        with pytest.raises(LongTailError, match="no form for soft targets"):
            loss(logits, soft)


@pytest.mark.parametrize("cls", [cls for cls in WEIGHTED if cls.accepts_soft_targets], ids=lambda cls: cls.__name__)
def test_a_soft_target_mixes_the_losses_of_its_classes(cls):
    logits, target = batch(cls)
    loss = formula(cls, class_counts=COUNTS, reduction="none")
    one_hot = torch.nn.functional.one_hot(target, NUM_CLASSES).double()
    other = one_hot.roll(1, dims=1)
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, target))
    mixed = 0.3 * loss(logits, target) + 0.7 * loss(logits, (target + 1) % NUM_CLASSES)
    torch.testing.assert_close(loss(logits, 0.3 * one_hot + 0.7 * other), mixed)


@each_formula
@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10_000), min_size=NUM_CLASSES, max_size=NUM_CLASSES).filter(any),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
    weighting=st.sampled_from(["none", "inverse", "inverse_log", "effective"]),
)
def test_finite_for_any_counts_and_extreme_logits(cls, counts, scale, weighting):
    logits, target = batch(cls, torch.float32)
    logits = (scale * logits).requires_grad_()
    loss = formula(cls, class_counts=counts)
    if cls in WEIGHTED:
        loss.weighting = weighting
    value = loss(logits, target)
    value.backward()
    assert bool(value.isfinite())
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("counts", [[1, 1, 1, 1, 0], [0, 0, 0, 0, 1], [10**7, 0, 1, 0, 1]])
@each_formula
def test_finite_for_counts_of_0_and_1_in_training_mode(cls, counts):
    logits, target = batch(cls, torch.float32)
    logits.requires_grad_()
    value = make(cls, class_counts=counts)(logits, target)
    value.backward()
    assert bool(value.isfinite())
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("cls", [cls for cls in LOSSES if cls.__name__ not in SEE_A_SHIFT and cls is not WrapLoss])
@settings(max_examples=10, deadline=None)
@given(shift=st.floats(-100, 100))
def test_a_constant_added_to_all_logits_changes_nothing(cls, shift):
    logits, target = batch(cls)
    loss = formula(cls, class_counts=COUNTS)
    torch.testing.assert_close(loss(logits + shift, target), loss(logits, target), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "cls", [cls for cls in LOSSES if cls.__name__ not in SEE_THE_SCALE_OF_COUNTS and cls is not WrapLoss]
)
@settings(max_examples=10, deadline=None)
@given(factor=st.integers(1, 10_000))
def test_only_the_shape_of_the_counts_matters(cls, factor):
    logits, target = batch(cls)
    scaled = formula(cls, class_counts=[factor * count for count in COUNTS])
    torch.testing.assert_close(scaled(logits, target), formula(cls, class_counts=COUNTS)(logits, target))


@pytest.mark.parametrize("name", UNIFORM_IS_CROSS_ENTROPY)
@pytest.mark.parametrize("count", [1, 50])
def test_uniform_counts_give_cross_entropy(name, count):
    cls = next(cls for cls in LOSSES if cls.__name__ == name)
    logits, target = batch(cls)
    loss = formula(cls, class_counts=[count] * NUM_CLASSES, **UNIFORM_IS_CROSS_ENTROPY[name])
    torch.testing.assert_close(loss(logits, target), torch.nn.functional.cross_entropy(logits, target))


@pytest.mark.parametrize("name", MARGINS)
def test_the_rarer_the_class_the_more_it_must_win_by(name):
    cls = next(cls for cls in LOSSES if cls.__name__ == name)
    losses = formula(cls, class_counts=COUNTS, reduction="none")(torch.zeros(5, 5), torch.arange(5))
    assert bool((losses.diff() > 0).all())


@pytest.mark.parametrize("cls", WEIGHTED, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("normalize", ["batch", "weight_sum", "global"])
@pytest.mark.parametrize("weighting", ["inverse", "inverse_sqrt", "inverse_log", "effective(0.99)"])
def test_weighting_has_no_effect_on_uniform_counts(cls, normalize, weighting):
    logits, target = batch(cls)
    plain = formula(cls, class_counts=[7] * NUM_CLASSES)
    weighted = formula(cls, class_counts=[7] * NUM_CLASSES, weighting=weighting, normalize=normalize)
    torch.testing.assert_close(weighted(logits, target), plain(logits, target))


@pytest.mark.parametrize("cls", WEIGHTED, ids=lambda cls: cls.__name__)
def test_weighting_multiplies_the_loss_of_each_sample(cls):
    logits, target = batch(cls)
    plain = formula(cls, class_counts=COUNTS, reduction="none")(logits, target)
    weighted = formula(cls, class_counts=COUNTS, reduction="none", weighting="inverse", normalize="batch")
    raw = 1 / torch.tensor(COUNTS, dtype=torch.float64)
    torch.testing.assert_close(weighted(logits, target), plain * (raw / raw.mean())[target])


@each_formula
def test_compiles_without_graph_breaks(cls):
    logits, target = batch(cls, torch.float32)
    loss = formula(cls, class_counts=COUNTS)
    if cls in WEIGHTED:
        loss.weighting = "effective(0.999)"
    torch.compiler.reset()  # all losses share one forward, whose recompilations are limited
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    assert bool(compiled.train()(logits, target).isfinite())  # with the luck of training, where there is any


@each_loss
def test_an_unknown_reduction_is_refused(cls):
    with pytest.raises(LongTailError, match="choose 'mean', 'sum' or 'none'"):
        formula(cls, reduction="average")


def gradient_of_rows(name, first, step):
    cls = next(cls for cls in LOSSES if cls.__name__ == name)
    logits, target = batch(cls)
    weight = torch.eye(NUM_CLASSES, dtype=torch.float64).requires_grad_()
    loss = formula(cls, class_counts=COUNTS)
    if cls in WEIGHTED:
        loss.weighting = "inverse"
    loss.train(name == "LADELoss")  # which looks at the rows of other ranks in training only
    loss(logits[first::step] @ weight, target[first::step]).backward()
    return weight.grad


def gradients_of_my_shard(names):
    rank, size = dist.get_rank(), dist.get_world_size()
    gradients = torch.stack([gradient_of_rows(name, rank, size) for name in names])
    dist.all_reduce(gradients)
    return (gradients / size).tolist()


def test_gradients_of_two_ranks_are_those_of_one(pool):
    # As DDP averages them.
    names = [cls.__name__ for cls in LOSSES if cls.__name__ != "WrapLoss"]
    for gradients in pool.run(gradients_of_my_shard, names):
        for name, gradient in zip(names, gradients):
            expected = gradient_of_rows(name, 0, 1)
            torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), expected, msg=name)


# -- losses of other arguments -----------------------------------------------------------------------


def pair(cls, **options):
    """The loss in float64 and evaluation mode, where nothing is queued, with its counts if it takes any."""
    counts = {"class_counts": COUNTS} if "class_counts" in inspect.signature(cls).parameters else {}
    return make(cls, **counts, **options).double().eval()


def test_every_public_loss_is_in_one_of_the_contracts():
    others = {cls.__name__ for cls in public_classes("losses") if not issubclass(cls, LongTailLoss)}
    assert others == {*PAIRS, "MomentumEncoder"}


@each_pair
def test_pairs_take_only_keywords_but_for_class_counts(cls):
    parameters = [p for name, p in inspect.signature(cls).parameters.items() if name != "class_counts"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)


@each_pair
def test_pairs_survive_pickle_deepcopy_spec_and_state_dict(cls):
    loss, inputs = pair(cls), PAIRS[cls.__name__]()
    rebuilt = build(spec_of(loss)).double().eval()
    rebuilt.load_state_dict(loss.state_dict())
    if hasattr(rebuilt, "bind_class_counts"):
        rebuilt.bind_class_counts(COUNTS)
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), rebuilt):
        torch.testing.assert_close(twin(*inputs), loss(*inputs))
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    assert "class_counts" not in torch.load(buffer, weights_only=True)


@each_pair
def test_pairs_reductions_agree(cls):
    inputs = PAIRS[cls.__name__]()
    each = pair(cls, reduction="none")
    twin = {how: pair(cls, reduction=how) for how in ("sum", "mean")}
    for loss in twin.values():
        loss.load_state_dict(each.state_dict())
    torch.testing.assert_close(twin["sum"](*inputs), each(*inputs).sum())
    torch.testing.assert_close(twin["mean"](*inputs), each(*inputs).mean())
    with pytest.raises(LongTailError, match="choose 'mean', 'sum' or 'none'"):
        make(cls, reduction="average")


@each_pair
def test_pairs_gradcheck(cls):
    loss = pair(cls)
    first, *rest = PAIRS[cls.__name__]()
    assert torch.autograd.gradcheck(lambda x: loss(x, *rest), first.requires_grad_())


@each_pair
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pairs_are_computed_in_float32(cls, dtype):
    loss = pair(cls).float()
    half = [x.to(dtype) if x.is_floating_point() else x for x in PAIRS[cls.__name__]()]
    with torch.autocast("cpu", dtype=dtype):
        value = loss(half[0].requires_grad_(), *half[1:])
    assert value.dtype == torch.float32
    full = [x.float() if x.is_floating_point() else x for x in half]
    torch.testing.assert_close(value, loss(*full))
    value.backward()
    assert half[0].grad.dtype == dtype
    assert bool(half[0].grad.isfinite().all())


@each_pair
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_pairs_are_finite_at_extremes(cls, scale):
    loss = pair(cls).float()
    inputs = [(scale * x).float() if x.is_floating_point() else x for x in PAIRS[cls.__name__]()]
    value = loss(inputs[0].requires_grad_(), *inputs[1:])
    value.backward()
    assert bool(value.isfinite())
    assert bool(inputs[0].grad.isfinite().all())


@each_pair
def test_pairs_compile_without_graph_breaks(cls):
    loss, inputs = pair(cls), PAIRS[cls.__name__]()
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), loss(*inputs))


def masked(cls, options):
    """Logits of which one class is masked, and a target that is another one."""
    logits = torch.randn(6, NUM_CLASSES, dtype=torch.float64)
    logits[:, 2] = -torch.inf
    logits[3, 1] = -torch.inf  # and another one in a single row
    if cls.multi_label:
        return logits, torch.eye(NUM_CLASSES)[[0, 3, 4, 0, 3, 4]].to(logits.dtype)
    return logits, torch.tensor([0, 3, 4, 0, 3, 4])


@each_formula
@pytest.mark.parametrize("soft", [False, True])
def test_a_masked_class_is_impossible(cls, soft):
    """Minus infinity hides a class: loss and gradient stay finite, and are those of a very small logit."""
    loss = make(cls, class_counts=COUNTS).eval()
    logits, target = masked(cls, {})
    if soft:
        if cls.multi_label or not cls.accepts_soft_targets:
            pytest.skip("has no soft targets")
        target = torch.nn.functional.one_hot(target, NUM_CLASSES) * 0.7
        target[:, 4] += 0.3
        target = target.double()
    logits.requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[:, 2].any()
    if cls.__name__ not in ("LabelAwareSmoothingLoss", "LADELoss"):  # which look at the logits of all classes
        small = logits.detach().clamp(min=-700).requires_grad_()
        torch.testing.assert_close(value, loss(small, target))


@each_formula
def test_a_masked_target_costs_infinitely_much(cls):
    logits, target = masked(cls, {})
    logits[:, 0] = -torch.inf
    assert make(cls, class_counts=COUNTS).eval()(logits, target) == torch.inf


@each_formula
def test_an_empty_batch_is_refused(cls):
    target = torch.zeros(0, NUM_CLASSES) if cls.multi_label else torch.zeros(0, dtype=torch.int64)
    with pytest.raises(LongTailError, match=rf"{cls.__name__} got an empty batch: its mean is no number"):
        make(cls, class_counts=COUNTS)(torch.zeros(0, NUM_CLASSES), target)
