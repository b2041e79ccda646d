"""LightningModules: thin wiring of backbone, head and loss."""

from longtail_lightning.modules._described_module import DescribedModule as DescribedModule
from longtail_lightning.modules.base_classifier import BaseClassifier as BaseClassifier
from longtail_lightning.modules.decoupled import Decoupled as Decoupled
from longtail_lightning.modules.distillation import Distillation as Distillation
from longtail_lightning.modules.explanation import Evidence as Evidence
from longtail_lightning.modules.explanation import Explanation as Explanation
from longtail_lightning.modules.load import Classifier as Classifier
from longtail_lightning.modules.load import load as load
from longtail_lightning.modules.prediction import Prediction as Prediction
from longtail_lightning.modules.prototype_transfer import PrototypeTransfer as PrototypeTransfer
from longtail_lightning.modules.retrieval_augmented import RetrievalAugmented as RetrievalAugmented
from longtail_lightning.modules.schedule import WarmupCosine as WarmupCosine
from longtail_lightning.modules.schedule import WarmupMultiStep as WarmupMultiStep

__all__ = [
    "BaseClassifier",
    "Classifier",
    "Decoupled",
    "DescribedModule",
    "Distillation",
    "Evidence",
    "Explanation",
    "Prediction",
    "PrototypeTransfer",
    "RetrievalAugmented",
    "WarmupCosine",
    "WarmupMultiStep",
    "load",
]
