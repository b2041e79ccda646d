"""Data: long-tail subsets, LightningDataModules, the embedded synthetic set."""

from longtail_lightning.data.array import ArrayLT as ArrayLT
from longtail_lightning.data.array_images import ArrayImages as ArrayImages
from longtail_lightning.data.check import DataReport as DataReport
from longtail_lightning.data.check import check_images as check_images
from longtail_lightning.data.cifar import CIFAR10LT as CIFAR10LT
from longtail_lightning.data.cifar import CIFAR100LT as CIFAR100LT
from longtail_lightning.data.class_names import read_class_names as read_class_names
from longtail_lightning.data.concat import ConcatLT as ConcatLT
from longtail_lightning.data.csv_lt import CSVLT as CSVLT
from longtail_lightning.data.datamodule import LongTailDataModule as LongTailDataModule
from longtail_lightning.data.decode import decode_image as decode_image
from longtail_lightning.data.feature_datamodule import FeatureDataModule as FeatureDataModule
from longtail_lightning.data.huggingface_lt import HuggingFaceLT as HuggingFaceLT
from longtail_lightning.data.image_folder_lt import ImageFolderLT as ImageFolderLT
from longtail_lightning.data.image_list import ImageList as ImageList
from longtail_lightning.data.image_list_lt import ImageListLT as ImageListLT
from longtail_lightning.data.image_shards import ImageShards as ImageShards
from longtail_lightning.data.image_transforms import ImageTransforms as ImageTransforms
from longtail_lightning.data.image_transforms import PaddedCropTransforms as PaddedCropTransforms
from longtail_lightning.data.image_transforms import ResizedCropTransforms as ResizedCropTransforms
from longtail_lightning.data.inaturalist import INaturalist as INaturalist
from longtail_lightning.data.labels import labels_of as labels_of
from longtail_lightning.data.long_tail import SubsetId as SubsetId
from longtail_lightning.data.long_tail import long_tail_counts as long_tail_counts
from longtail_lightning.data.long_tail import long_tail_indices as long_tail_indices
from longtail_lightning.data.prepare import prepare_shards as prepare_shards
from longtail_lightning.data.shards_lt import ShardsLT as ShardsLT
from longtail_lightning.data.synthetic import SyntheticImages as SyntheticImages
from longtail_lightning.data.synthetic import SyntheticLongTail as SyntheticLongTail

__all__ = [
    "ArrayImages",
    "ArrayLT",
    "CIFAR100LT",
    "CIFAR10LT",
    "ConcatLT",
    "CSVLT",
    "DataReport",
    "FeatureDataModule",
    "HuggingFaceLT",
    "ImageFolderLT",
    "INaturalist",
    "ImageList",
    "ImageListLT",
    "ImageShards",
    "ImageTransforms",
    "LongTailDataModule",
    "PaddedCropTransforms",
    "ResizedCropTransforms",
    "ShardsLT",
    "SubsetId",
    "SyntheticImages",
    "SyntheticLongTail",
    "check_images",
    "decode_image",
    "labels_of",
    "long_tail_counts",
    "long_tail_indices",
    "prepare_shards",
    "read_class_names",
]
