"""Comparisons of evaluations: tables, files and plots."""

from longtail_lightning.report.comparison import Comparison as Comparison
from longtail_lightning.report.curve import CurveComparison as CurveComparison

__all__ = ["Comparison", "CurveComparison"]
