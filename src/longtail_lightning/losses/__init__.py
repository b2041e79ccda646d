"""Losses: `Loss(class_counts=None, *, ...)(logits, target)`. Torch only."""

from longtail_lightning.losses._base import LongTailLoss as LongTailLoss
from longtail_lightning.losses.balanced_softmax import BalancedSoftmaxLoss as BalancedSoftmaxLoss
from longtail_lightning.losses.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from longtail_lightning.losses.logit_adjusted import LogitAdjustedLoss as LogitAdjustedLoss
from longtail_lightning.losses.wrap import WrapLoss as WrapLoss

__all__ = ["BalancedSoftmaxLoss", "CrossEntropyLoss", "LogitAdjustedLoss", "LongTailLoss", "WrapLoss"]
