"""What one pass of an encoder leaves behind: features of a whole split, kept in memory or on disk."""

from longtail_lightning.features.bank import FeatureBank as FeatureBank
from longtail_lightning.features.extract import extract_features as extract_features
from longtail_lightning.features.extraction import Extraction as Extraction
from longtail_lightning.features.fit_head import fit_head as fit_head
from longtail_lightning.features.head_training import HeadTraining as HeadTraining
from longtail_lightning.features.verify import verify_bank as verify_bank

__all__ = ["extract_features", "Extraction", "FeatureBank", "fit_head", "HeadTraining", "verify_bank"]
