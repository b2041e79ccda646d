from __future__ import annotations

import torch
from torchmetrics.classification import MulticlassAccuracy

from longtail_lightning import BalancedAccuracy, PerClassAccuracy


def test_per_class_agrees_with_torchmetrics_where_a_class_is_present():
    logits, target = torch.randn(200, 6), torch.randint(5, (200,))
    ours = PerClassAccuracy(6)(logits, target)
    theirs = MulticlassAccuracy(6, average="none")(logits, target)
    torch.testing.assert_close(ours[:5], theirs[:5])
    assert bool(ours[5].isnan())  # torchmetrics says 0 for a class without images


def test_balanced_accuracy_is_the_mean_over_present_classes():
    logits, target = torch.randn(200, 6), torch.randint(5, (200,))
    torch.testing.assert_close(BalancedAccuracy(6)(logits, target), PerClassAccuracy(6)(logits, target)[:5].mean())
