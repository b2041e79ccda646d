"""Comparisons of evaluations: tables, files and plots."""

from longtail_lightning.report.comparison import Comparison as Comparison

__all__ = ["Comparison"]
