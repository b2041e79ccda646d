"""The logits of two branches as those of one classifier."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from longtail_lightning import CrossEntropyLoss, GatedSum, LogitAdjustedLoss, LongTailError, NormalizedSum, PlainSum
from longtail_lightning._spec import build, spec_of
from longtail_lightning.losses.weighting import class_weights
from tests.reference import retrieval as reference

FUSIONS = [
    NormalizedSum(),
    NormalizedSum("paper"),
    NormalizedSum("learned"),
    NormalizedSum(3.0),
    PlainSum(),
    GatedSum(6),
]
each_fusion = pytest.mark.parametrize("fusion", FUSIONS, ids=str)


def branches(dtype=torch.float64):
    made = torch.randn(2, 5, 6, dtype=dtype).mul(torch.tensor([[[0.1]], [[30.0]]], dtype=dtype))
    return [part.clone().requires_grad_() for part in made]


@pytest.mark.parametrize(
    ("fusion", "scale"), [(NormalizedSum("paper"), 3.0), (NormalizedSum(8.0), 8.0), (GatedSum(6), 8.0)]
)
def test_equation_5_forward_and_gradient(fusion, scale):
    ours, theirs = branches(), branches()
    for mine, other in zip(ours, theirs):
        other.data = mine.data
    found, expected = fusion.double()(*ours), reference.fused(*theirs, scale)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(5, 6, dtype=torch.float64)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("weighting", ["none", "inverse_sqrt", "inverse_log"])
@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_equations_3_6_and_7_up_to_the_scale_of_the_weights(weighting, tau):
    counts, target = [40, 12, 7, 5, 3, 2], torch.tensor([0, 1, 5, 3, 2])
    logits = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    again = logits.detach().clone().requires_grad_()
    found = LogitAdjustedLoss(counts, tau=tau, weighting=weighting)(logits, target)
    expected = reference.weighted_adjusted(again, target, counts, tau=tau, alpha=weighting)
    # Ours have the mean 1 over the training images, so that learning rates mean the same.
    scale = (
        float(class_weights(torch.tensor(counts), weighting, dtype=torch.float64)[0]) if weighting != "none" else 1.0
    )
    scale *= {"none": 1.0, "inverse_sqrt": 40**0.5, "inverse_log": float(torch.tensor(40.0).double().log())}[weighting]
    torch.testing.assert_close(found, expected * scale)
    found.backward()
    expected.backward()
    torch.testing.assert_close(logits.grad, again.grad * scale)


def test_equation_2_up_to_the_scale_of_the_weights():
    counts, target = [40, 12, 7, 5, 3, 2], torch.tensor([0, 1, 5, 3, 2])
    logits = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    found = CrossEntropyLoss(counts, weighting="inverse")(logits, target)
    expected = reference.balanced_cross_entropy(logits.detach(), target, counts)
    torch.testing.assert_close(found, expected * sum(counts) / len(counts))


@each_fusion
def test_survives_pickle_deepcopy_and_spec(fusion):
    base, retrieved = branches(torch.float32)
    rebuilt = build(spec_of(fusion))
    rebuilt.load_state_dict(fusion.state_dict())
    for twin in (pickle.loads(pickle.dumps(fusion)), copy.deepcopy(fusion), rebuilt):
        torch.testing.assert_close(twin(base, retrieved), fusion(base, retrieved))


@each_fusion
def test_half_precision_is_fused_in_float32(fusion):
    base, retrieved = (part.detach().bfloat16() for part in branches())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fusion.float()(base, retrieved)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, fusion(base.float(), retrieved.float()))


def test_what_is_learned():
    scale, gate = NormalizedSum("learned"), GatedSum(6, scale=2.0)
    base, retrieved = branches(torch.float32)
    torch.testing.assert_close(scale(base, retrieved), NormalizedSum(8.0)(base, retrieved))
    for fusion in (scale, gate):
        fusion.float()(*(part.detach().float() for part in branches())).square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in fusion.parameters())
    with torch.no_grad():
        gate.gate.bias.fill_(50.0)  # the retrieval branch alone
    torch.testing.assert_close(gate(base, retrieved), 4.0 * torch.nn.functional.normalize(retrieved, dim=1))


def test_wrong_scales():
    with pytest.raises(LongTailError, match="choose a number, 'paper' or 'learned'"):
        NormalizedSum("half")
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(LongTailError, match="scale"):
            NormalizedSum(wrong)
