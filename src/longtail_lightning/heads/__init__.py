"""Heads: `head(features) -> logits`, with `num_features` and `num_classes`. Torch only."""

from longtail_lightning.heads._base import Head as Head
from longtail_lightning.heads.cosine import CosineHead as CosineHead
from longtail_lightning.heads.linear import LinearHead as LinearHead

__all__ = ["CosineHead", "Head", "LinearHead"]
