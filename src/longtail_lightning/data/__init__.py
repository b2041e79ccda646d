"""Data: long-tail subsets, LightningDataModules, the embedded synthetic set."""

from longtail_lightning.data.array import ArrayLT as ArrayLT
from longtail_lightning.data.array_images import ArrayImages as ArrayImages
from longtail_lightning.data.cifar import CIFAR10LT as CIFAR10LT
from longtail_lightning.data.cifar import CIFAR100LT as CIFAR100LT
from longtail_lightning.data.concat import ConcatLT as ConcatLT
from longtail_lightning.data.datamodule import LongTailDataModule as LongTailDataModule
from longtail_lightning.data.decode import decode_image as decode_image
from longtail_lightning.data.feature_datamodule import FeatureDataModule as FeatureDataModule
from longtail_lightning.data.image_list import ImageList as ImageList
from longtail_lightning.data.image_transforms import ImageTransforms as ImageTransforms
from longtail_lightning.data.image_transforms import PaddedCropTransforms as PaddedCropTransforms
from longtail_lightning.data.image_transforms import ResizedCropTransforms as ResizedCropTransforms
from longtail_lightning.data.labels import labels_of as labels_of
from longtail_lightning.data.long_tail import SubsetId as SubsetId
from longtail_lightning.data.long_tail import long_tail_counts as long_tail_counts
from longtail_lightning.data.long_tail import long_tail_indices as long_tail_indices
from longtail_lightning.data.synthetic import SyntheticImages as SyntheticImages
from longtail_lightning.data.synthetic import SyntheticLongTail as SyntheticLongTail

__all__ = [
    "ArrayImages",
    "ArrayLT",
    "CIFAR100LT",
    "CIFAR10LT",
    "ConcatLT",
    "FeatureDataModule",
    "ImageList",
    "ImageTransforms",
    "LongTailDataModule",
    "PaddedCropTransforms",
    "ResizedCropTransforms",
    "SubsetId",
    "SyntheticImages",
    "SyntheticLongTail",
    "decode_image",
    "labels_of",
    "long_tail_counts",
    "long_tail_indices",
]
