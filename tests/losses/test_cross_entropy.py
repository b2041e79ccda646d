from __future__ import annotations

import torch

from longtail_lightning.losses import CrossEntropyLoss
from tests.losses.compare import assert_matches, one_hot_equals_index
from tests.reference import losses as reference


def test_matches_the_paper_forward_and_gradient():
    assert_matches(CrossEntropyLoss, reference.cross_entropy)


def test_one_hot_target_is_the_class_index():
    one_hot_equals_index(CrossEntropyLoss())


def test_label_smoothing_mixes_the_target_with_the_uniform_distribution():
    logits, target = torch.randn(6, 4, dtype=torch.float64), torch.randint(4, (6,))
    soft = 0.9 * torch.nn.functional.one_hot(target, 4).double() + 0.1 / 4
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(CrossEntropyLoss(label_smoothing=0.1)(logits, target), expected)


def test_soft_targets_are_smoothed_as_torch_does():
    logits = torch.randn(6, 5, dtype=torch.float64)
    soft = torch.randn(6, 5, dtype=torch.float64).softmax(1)
    expected = torch.nn.functional.cross_entropy(logits, soft, label_smoothing=0.2)
    torch.testing.assert_close(CrossEntropyLoss(label_smoothing=0.2)(logits, soft), expected)
