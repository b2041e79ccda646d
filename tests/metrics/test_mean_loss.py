from __future__ import annotations

import math

import pytest
import torch

from longtail_lightning.metrics._mean_loss import MeanLoss


def test_every_image_weighs_the_same():
    metric = MeanLoss()
    metric.update(torch.tensor(1.0), 9)
    metric.update(torch.tensor(11.0), 1)
    assert metric.compute().item() == pytest.approx(2.0)


def test_sums_of_a_module_of_half_precision_are_exact():
    metric = MeanLoss()
    torch.nn.ModuleList([metric]).to(torch.float16)
    for _ in range(40):
        metric.update(torch.tensor(2.5), 1000)  # 100,000 is more than half precision can hold
    assert metric.compute().item() == 2.5


def test_a_loss_that_is_nan_is_told():
    metric = MeanLoss()
    metric.update(torch.tensor(1.0), 9)
    metric.update(torch.tensor(math.nan), 1)
    assert math.isnan(metric.compute())
