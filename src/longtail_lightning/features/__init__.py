"""What one pass of an encoder leaves behind: features of a whole split, kept in memory or on disk."""

from longtail_lightning.features.bank import FeatureBank as FeatureBank
from longtail_lightning.features.extract import extract_features as extract_features
from longtail_lightning.features.fit_head import fit_head as fit_head

__all__ = ["FeatureBank", "extract_features", "fit_head"]
