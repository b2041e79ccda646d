from __future__ import annotations

import math

import pytest
import torch

from longtail_lightning import ShotAccuracy
from longtail_lightning._errors import LongTailError

COUNTS = [500, 101, 100, 20, 19, 1, 0]


def by_hand(preds, target, counts, many=100, few=20):
    """Mean over the classes of a group of per-class accuracy, in plain Python."""
    per_class = {}
    for c in set(target.tolist()):
        answers = [p for p, t in zip(preds.tolist(), target.tolist()) if t == c]
        per_class[c] = sum(p == c for p in answers) / len(answers)
    groups = {"acc": range(len(counts))}
    groups["acc_many"] = [c for c, n in enumerate(counts) if n > many]
    groups["acc_few"] = [c for c, n in enumerate(counts) if n < few]
    groups["acc_medium"] = [c for c, n in enumerate(counts) if few <= n <= many]
    means = {}
    for name, members in groups.items():
        values = [per_class[c] for c in members if c in per_class]
        means[name] = sum(values) / len(values) if values else math.nan
    return means


def test_equals_the_definition_over_many_batches():
    logits, target = torch.randn(300, 7), torch.randint(6, (300,))  # class 6 is absent from the test set
    metric = ShotAccuracy(COUNTS)
    for rows in torch.arange(300).split(64):
        metric.update(logits[rows], target[rows])
    assert {k: v.item() for k, v in metric.compute().items()} == pytest.approx(by_hand(logits.argmax(1), target, COUNTS))


def test_predicted_classes_do_as_well_as_logits():
    logits, target = torch.randn(50, 7), torch.randint(7, (50,))
    both = [ShotAccuracy(COUNTS)(values, target) for values in (logits, logits.argmax(1))]
    torch.testing.assert_close(*both)


def test_an_empty_group_is_nan_not_zero():
    # Public code prints few = 0.0 for CIFAR-10-LT, which has no few-shot class.
    values = ShotAccuracy([5000, 50])(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert math.isnan(values["acc_few"])
    assert values["acc_many"] == values["acc_medium"] == values["acc"] == 1


def test_an_absent_class_is_left_out():
    values = ShotAccuracy([500, 400, 3])(torch.tensor([0, 0, 2]), torch.tensor([0, 0, 2]))
    assert values["acc_many"] == 1.0


def test_top_k():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert ShotAccuracy([1, 1, 1], top_k=2)(logits, torch.tensor([1, 2]))["acc"] == 0.5
    with pytest.raises(LongTailError, match="needs logits"):
        ShotAccuracy([1, 1, 1], top_k=2).update(torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(LongTailError, match="top_k=4"):
        ShotAccuracy([1, 1, 1], top_k=4)


def test_micro_average_is_the_fraction_of_right_answers():
    preds, target = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1])
    assert ShotAccuracy([9, 1])(preds, target)["acc"] == 0.5
    assert ShotAccuracy([9, 1], average="micro")(preds, target)["acc"] == 0.75


def test_oltr_convention():
    values = ShotAccuracy([100, 20], convention="oltr")(torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert (values["acc_many"], values["acc_few"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 1]), "made for 7 classes, got logits for 3"),
        (torch.zeros(2, 7), torch.tensor([0, 7]), r"labels from 0 to 7, outside 0\.\.6"),
        (torch.zeros(3, 7), torch.tensor([0, 1]), "expects"),
        (torch.zeros(2), torch.tensor([0, 1]), "1-D floating predictions"),
    ],
)
def test_bad_input_is_named(preds, target, message):
    with pytest.raises(LongTailError, match=message):
        ShotAccuracy(COUNTS).update(preds, target)


def _rank_metric() -> dict[str, float]:
    import torch.distributed as dist

    torch.manual_seed(0)
    logits, target = torch.randn(101, 7), torch.randint(7, (101,))
    metric = ShotAccuracy(COUNTS)
    rows = torch.arange(dist.get_rank(), 101, dist.get_world_size())
    metric.update(logits[rows], target[rows])
    return {name: value.item() for name, value in metric.compute().items()}


def test_two_ranks_give_the_value_of_one_process(pool):
    torch.manual_seed(0)
    logits, target = torch.randn(101, 7), torch.randint(7, (101,))
    expected = {name: value.item() for name, value in ShotAccuracy(COUNTS)(logits, target).items()}
    assert pool.run(_rank_metric) == [expected, expected]
