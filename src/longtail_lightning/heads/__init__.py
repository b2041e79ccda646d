"""Heads: `head(features) -> logits`, with `num_features` and `num_classes`. Torch only."""

from longtail_lightning.heads._base import Head as Head
from longtail_lightning.heads.cosine import CosineHead as CosineHead
from longtail_lightning.heads.ensemble import EnsembleHead as EnsembleHead
from longtail_lightning.heads.fecam import FeCAMHead as FeCAMHead
from longtail_lightning.heads.fusion import Fusion as Fusion
from longtail_lightning.heads.fusion import GatedSum as GatedSum
from longtail_lightning.heads.fusion import NormalizedSum as NormalizedSum
from longtail_lightning.heads.fusion import PlainSum as PlainSum
from longtail_lightning.heads.knowledge_transfer import KnowledgeTransferHead as KnowledgeTransferHead
from longtail_lightning.heads.learnable_scale import LearnableScaleHead as LearnableScaleHead
from longtail_lightning.heads.linear import LinearHead as LinearHead
from longtail_lightning.heads.logit_adjusted import LogitAdjustedHead as LogitAdjustedHead
from longtail_lightning.heads.mlp import MLPHead as MLPHead
from longtail_lightning.heads.nearest_class_mean import NearestClassMeanHead as NearestClassMeanHead
from longtail_lightning.heads.prototype import PrototypeHead as PrototypeHead
from longtail_lightning.heads.tau_normalized import TauNormalizedHead as TauNormalizedHead

__all__ = [
    "CosineHead",
    "EnsembleHead",
    "FeCAMHead",
    "Fusion",
    "GatedSum",
    "Head",
    "KnowledgeTransferHead",
    "LearnableScaleHead",
    "LinearHead",
    "LogitAdjustedHead",
    "MLPHead",
    "NearestClassMeanHead",
    "NormalizedSum",
    "PlainSum",
    "PrototypeHead",
    "TauNormalizedHead",
]
