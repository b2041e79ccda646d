"""Arguments of another type than the one asked for are refused in one sentence; none is read as something else."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from longtail_lightning import (
    ArrayLT,
    ClassAwareSampler,
    ClassBalancedSampler,
    ClassCounts,
    ClassUniformBatchSampler,
    CosineHead,
    CrossEntropyLoss,
    EvaluationSampler,
    ExpectedCalibrationError,
    FeatureBank,
    InstanceBalancedSampler,
    LinearHead,
    LogitAdjustedLoss,
    LongTailError,
    NearestClassMeanHead,
    PerClassAccuracy,
    ShotAccuracy,
)

NO_WHOLE_NUMBERS = [2.5, float("nan"), "3", True, [3], 2**70, -1]
FEATURES = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
BANK = FeatureBank.from_arrays(FEATURES, [0, 1, 1])
HALVES = SimpleNamespace(features=FEATURES, labels=torch.tensor([0.5, 1, 1]))
LOGITS, LABELS = torch.zeros(2, 3), torch.tensor([0, 2])
ODD_LOGITS = {"whole": LOGITS.long(), "bool": LOGITS.bool(), "complex": LOGITS + 0j, "list": [[0.0] * 3] * 2}

WHOLE = {
    "from_labels": lambda value: ClassCounts.from_labels([0, 1], value),
    "LinearHead": lambda value: LinearHead(4, value),
    "CosineHead": lambda value: CosineHead(value, 3),
    "PerClassAccuracy": PerClassAccuracy,
    "top_k": lambda value: PerClassAccuracy(3, top_k=value),
    "ShotAccuracy": lambda value: ShotAccuracy([5, 3, 2], top_k=value),
    "calibration": ExpectedCalibrationError,
    "bins": lambda value: ExpectedCalibrationError(3, num_bins=value),
    "samples_per_class": lambda value: ClassAwareSampler([0, 1], value),
    "classes_per_batch": lambda value: ClassUniformBatchSampler([0, 1], value),
    "num_samples": lambda value: ClassBalancedSampler([0, 1], num_samples=value),
    "num_replicas": lambda value: InstanceBalancedSampler([0, 1], num_replicas=value),
    "ranks of evaluation": lambda value: EvaluationSampler(range(3), num_replicas=value),
    "bank": lambda value: FeatureBank.from_arrays(FEATURES, [0, 1, 1], num_classes=value),
    "batches": lambda value: list(BANK.batches(value)),
}


ARGUMENTS = ["num_(classes|features|bins|samples|replicas)", "top_k", "size", "samples_per_class", "classes_per_batch"]


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=str)
@pytest.mark.parametrize("call", WHOLE)
def test_whole_numbers(call, value):
    with pytest.raises(
        LongTailError,
        match=r"num_classes|num_features|top_k|num_bins|num_samples|num_replicas|size|samples_per_class|classes_per_batch",
    ):
        WHOLE[call](value)


@pytest.mark.parametrize("seed", [2.5, "3", None, 2**70])
def test_seeds(seed):
    with pytest.raises(LongTailError, match="seed"):
        ClassBalancedSampler([0, 1], seed=seed)


def test_a_group_that_fills_the_memory():
    for make in (lambda: ClassAwareSampler([0, 1], 10**9), lambda: ClassUniformBatchSampler([0, 1], 5000, 5000)):
        with pytest.raises(LongTailError, match=r"fit no batch"):
            make()


WITHOUT_ORDER = [dict.fromkeys("abc"), {"a", "b", "c"}, {"a": 0, "b": 1, "c": 1}.values(), iter("abc"), 5]


@pytest.mark.parametrize("name", ["labels", "ids", "texts", "class_names"])
@pytest.mark.parametrize("values", WITHOUT_ORDER, ids=lambda value: type(value).__name__)
def test_a_bank_of_what_has_no_order(name, values):
    with pytest.raises(LongTailError, match=name):
        FeatureBank.from_arrays(FEATURES, **{"labels": [0, 1, 2], name: values})


WRONG = {
    "imaginary features": lambda: FeatureBank.from_arrays(FEATURES + 1j),
    "imaginary subset": lambda: BANK.subset([1j]),
    "width 1 to class means": lambda: NearestClassMeanHead(4, 2).fit(BANK)(torch.zeros(2, 1)),
    "labels of halves": lambda: NearestClassMeanHead(4, 2).fit(HALVES),
    "images of height 0": lambda: ArrayLT((np.zeros((4, 0, 8), np.uint8), [0, 1, 0, 1])).class_counts,
    "one text as names": lambda: ArrayLT((np.zeros((4, 8, 8), np.uint8), [0, 1, 2, 1]), class_names="abc"),
    "one number as offset": lambda: LogitAdjustedLoss([5, 3, 2], offset=1.0)(LOGITS, LABELS),
    "predictions to calibration": lambda: ExpectedCalibrationError(3).update(LABELS, LABELS),
    **{
        f"{kind} logits": lambda logits=logits: CrossEntropyLoss()(logits, LABELS)
        for kind, logits in ODD_LOGITS.items()
    },
    **{
        f"{kind} target of a {type(part).__name__}": lambda part=part, target=target: part(LOGITS, target)
        for kind, target in {"bool": LABELS.bool(), "list": [0, 2], "complex": LABELS + 0j}.items()
        for part in (CrossEntropyLoss(), PerClassAccuracy(3), ExpectedCalibrationError(3))
    },
    "target of fractions": lambda: ExpectedCalibrationError(3).update(LOGITS, torch.tensor([0.5, 2])),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_refused(case):
    with pytest.raises(LongTailError):
        WRONG[case]()


def test_logits_that_name_no_class_are_wrong_answers():
    for metric in (PerClassAccuracy(2), ExpectedCalibrationError(2)):
        metric.update(torch.full((4, 2), -torch.inf), torch.tensor([0, 0, 0, 1]))
        with pytest.warns(UserWarning, match="4 of 4 outputs"):
            value = metric.compute()
        assert float(value.nansum()) in (0.0, 1.0)
        assert metric.not_a_number == 4
