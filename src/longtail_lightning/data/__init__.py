"""Data: long-tail subsets, LightningDataModules, the embedded synthetic set."""

from longtail_lightning.data.datamodule import LongTailDataModule as LongTailDataModule
from longtail_lightning.data.labels import labels_of as labels_of
from longtail_lightning.data.long_tail import long_tail_counts as long_tail_counts
from longtail_lightning.data.synthetic import SyntheticImages as SyntheticImages
from longtail_lightning.data.synthetic import SyntheticLongTail as SyntheticLongTail

__all__ = ["LongTailDataModule", "SyntheticImages", "SyntheticLongTail", "labels_of", "long_tail_counts"]
