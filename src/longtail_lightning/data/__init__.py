"""LightningDataModules; the data sets behind them are importable from here too."""

from longtail_lightning.data.array import ArrayLT as ArrayLT
from longtail_lightning.data.cifar import CIFAR10LT as CIFAR10LT
from longtail_lightning.data.cifar import CIFAR100LT as CIFAR100LT
from longtail_lightning.data.concat import ConcatLT as ConcatLT
from longtail_lightning.data.csv_lt import CSVLT as CSVLT
from longtail_lightning.data.datamodule import LongTailDataModule as LongTailDataModule
from longtail_lightning.data.feature_datamodule import FeatureDataModule as FeatureDataModule
from longtail_lightning.data.huggingface_lt import HuggingFaceLT as HuggingFaceLT
from longtail_lightning.data.image_folder_lt import ImageFolderLT as ImageFolderLT
from longtail_lightning.data.image_list_lt import ImageListLT as ImageListLT
from longtail_lightning.data.inaturalist import INaturalist as INaturalist
from longtail_lightning.data.shards_lt import ShardsLT as ShardsLT
from longtail_lightning.data.synthetic import SyntheticLongTail as SyntheticLongTail
from longtail_lightning.datasets import *  # noqa: F403
from longtail_lightning.datasets import __all__ as _datasets

__all__ = [
    "ArrayLT",
    "CIFAR100LT",
    "CIFAR10LT",
    "CSVLT",
    "ConcatLT",
    "FeatureDataModule",
    "HuggingFaceLT",
    "INaturalist",
    "ImageFolderLT",
    "ImageListLT",
    "LongTailDataModule",
    "ShardsLT",
    "SyntheticLongTail",
    *_datasets,
]
