"""Metrics for imbalanced classes, as torchmetrics; all states are sums, so DDP is exact."""

from longtail_lightning.metrics.calibration import ExpectedCalibrationError as ExpectedCalibrationError
from longtail_lightning.metrics.class_accuracy import BalancedAccuracy as BalancedAccuracy
from longtail_lightning.metrics.class_accuracy import PerClassAccuracy as PerClassAccuracy
from longtail_lightning.metrics.shot_accuracy import ShotAccuracy as ShotAccuracy

__all__ = ["BalancedAccuracy", "ExpectedCalibrationError", "PerClassAccuracy", "ShotAccuracy"]
