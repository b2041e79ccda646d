from __future__ import annotations

import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from longtail_lightning import ExpectedCalibrationError
from longtail_lightning._errors import LongTailError


@pytest.mark.parametrize("num_bins", [5, 15])
def test_agrees_with_torchmetrics_over_many_batches(num_bins):
    logits, target = 3 * torch.randn(500, 6), torch.randint(6, (500,))
    ours, theirs = ExpectedCalibrationError(6, num_bins), MulticlassCalibrationError(6, n_bins=num_bins)
    for rows in torch.arange(500).split(77):
        ours.update(logits[rows], target[rows])
        theirs.update(logits[rows].softmax(1), target[rows])
    torch.testing.assert_close(ours.compute(), theirs.compute())


def test_certain_and_right_is_calibrated():
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert ExpectedCalibrationError(2)(logits, torch.tensor([0, 1])) == 0
    assert ExpectedCalibrationError(2)(logits, torch.tensor([1, 0])) == 1


def test_bins_must_exist():
    with pytest.raises(LongTailError, match="at least 1 as num_bins, got 0"):
        ExpectedCalibrationError(2, num_bins=0)


def test_a_confidence_on_the_edge_belongs_to_the_bin_below():
    """Guo et al. 2017: bin m is ((m - 1) / M, m / M]."""
    logits = torch.tensor([[0.0, 0.0], [0.9, 0.1]]).clamp(min=1e-9).log()
    logits[0] = 0.0  # confidences of 0.5 and 0.9
    ours = ExpectedCalibrationError(2, num_bins=2)(logits, torch.tensor([0, 1]))
    assert float(ours) == pytest.approx((abs(1 - 0.5) + abs(0 - 0.9)) / 2)
