"""Losses: `Loss(class_counts=None, *, ...)(logits, target)`. Torch only."""

from longtail_lightning.losses._base import LongTailLoss as LongTailLoss
from longtail_lightning.losses.balanced_softmax import BalancedSoftmaxLoss as BalancedSoftmaxLoss
from longtail_lightning.losses.class_balanced import ClassBalancedLoss as ClassBalancedLoss
from longtail_lightning.losses.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from longtail_lightning.losses.distribution_balanced import DistributionBalancedLoss as DistributionBalancedLoss
from longtail_lightning.losses.equalization import EqualizationLoss as EqualizationLoss
from longtail_lightning.losses.feature_distillation import FeatureDistillationLoss as FeatureDistillationLoss
from longtail_lightning.losses.focal import FocalLoss as FocalLoss
from longtail_lightning.losses.gaussian_clouded import GaussianCloudedLoss as GaussianCloudedLoss
from longtail_lightning.losses.group_distillation import GroupDistillationLoss as GroupDistillationLoss
from longtail_lightning.losses.hard_distillation import HardDistillationLoss as HardDistillationLoss
from longtail_lightning.losses.label_aware_smoothing import LabelAwareSmoothingLoss as LabelAwareSmoothingLoss
from longtail_lightning.losses.lade import LADELoss as LADELoss
from longtail_lightning.losses.ldam import LDAMLoss as LDAMLoss
from longtail_lightning.losses.logit_adjusted import LogitAdjustedLoss as LogitAdjustedLoss
from longtail_lightning.losses.logit_distillation import LogitDistillationLoss as LogitDistillationLoss
from longtail_lightning.losses.momentum_encoder import MomentumEncoder as MomentumEncoder
from longtail_lightning.losses.parametric_contrastive import ParametricContrastiveLoss as ParametricContrastiveLoss
from longtail_lightning.losses.seesaw import SeesawLoss as SeesawLoss
from longtail_lightning.losses.supervised_contrastive import SupervisedContrastiveLoss as SupervisedContrastiveLoss
from longtail_lightning.losses.vector_scaling import VectorScalingLoss as VectorScalingLoss
from longtail_lightning.losses.wrap import WrapLoss as WrapLoss

__all__ = [
    "BalancedSoftmaxLoss",
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "DistributionBalancedLoss",
    "EqualizationLoss",
    "FeatureDistillationLoss",
    "FocalLoss",
    "GaussianCloudedLoss",
    "GroupDistillationLoss",
    "HardDistillationLoss",
    "LabelAwareSmoothingLoss",
    "LADELoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "LogitDistillationLoss",
    "LongTailLoss",
    "MomentumEncoder",
    "ParametricContrastiveLoss",
    "SeesawLoss",
    "SupervisedContrastiveLoss",
    "VectorScalingLoss",
    "WrapLoss",
]
