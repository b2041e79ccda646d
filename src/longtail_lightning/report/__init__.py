"""Comparisons of evaluations: tables, files and plots."""

from longtail_lightning.report.comparison import Comparison as Comparison
from longtail_lightning.report.rejection import Rejection as Rejection
from longtail_lightning.report.rejection import find_threshold as find_threshold

__all__ = ["Comparison", "Rejection", "find_threshold"]
