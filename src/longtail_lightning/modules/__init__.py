"""LightningModules: thin wiring of backbone, head and loss."""

from longtail_lightning.modules.base_classifier import BaseClassifier as BaseClassifier
from longtail_lightning.modules.decoupled import Decoupled as Decoupled
from longtail_lightning.modules.schedule import WarmupCosine as WarmupCosine
from longtail_lightning.modules.schedule import WarmupMultiStep as WarmupMultiStep

__all__ = ["BaseClassifier", "Decoupled", "WarmupCosine", "WarmupMultiStep"]
