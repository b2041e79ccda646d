"""What one pass of an encoder leaves behind: features of a whole split, kept in memory or on disk."""

from longtail_lightning.features.bank import FeatureBank as FeatureBank

__all__ = ["FeatureBank"]
