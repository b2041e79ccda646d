"""What one pass of an encoder leaves behind: features of a whole split, kept in memory or on disk."""

from longtail_lightning.features.bank import FeatureBank as FeatureBank
from longtail_lightning.features.extract import extract_features as extract_features
from longtail_lightning.features.fit_head import fit_head as fit_head
from longtail_lightning.features.retraining import CRT as CRT
from longtail_lightning.features.retraining import LWS as LWS
from longtail_lightning.features.retraining import NCM as NCM
from longtail_lightning.features.retraining import Retraining as Retraining
from longtail_lightning.features.retraining import TauNormalization as TauNormalization
from longtail_lightning.features.tau import TauSelection as TauSelection
from longtail_lightning.features.tau import learn_tau as learn_tau
from longtail_lightning.features.tau import select_tau as select_tau

__all__ = [
    "CRT",
    "FeatureBank",
    "LWS",
    "NCM",
    "Retraining",
    "TauNormalization",
    "TauSelection",
    "extract_features",
    "fit_head",
    "learn_tau",
    "select_tau",
]
