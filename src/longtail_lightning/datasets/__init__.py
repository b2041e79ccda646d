"""Data sets of torch, and what is done to their items: labels, decoding, subsets, transforms."""

from longtail_lightning.datasets.array_images import ArrayImages as ArrayImages
from longtail_lightning.datasets.decode import decode_image as decode_image
from longtail_lightning.datasets.image_list import ImageList as ImageList
from longtail_lightning.datasets.image_shards import ImageShards as ImageShards
from longtail_lightning.datasets.image_transforms import ImageTransforms as ImageTransforms
from longtail_lightning.datasets.image_transforms import PaddedCropTransforms as PaddedCropTransforms
from longtail_lightning.datasets.image_transforms import ResizedCropTransforms as ResizedCropTransforms
from longtail_lightning.datasets.labels import labels_of as labels_of
from longtail_lightning.datasets.long_tail import SubsetId as SubsetId
from longtail_lightning.datasets.long_tail import long_tail_counts as long_tail_counts
from longtail_lightning.datasets.long_tail import long_tail_indices as long_tail_indices
from longtail_lightning.datasets.read_class_names import read_class_names as read_class_names
from longtail_lightning.datasets.synthetic_images import SyntheticImages as SyntheticImages
from longtail_lightning.datasets.verify_shards import verify_shards as verify_shards

__all__ = [
    "ArrayImages",
    "ImageList",
    "ImageShards",
    "ImageTransforms",
    "PaddedCropTransforms",
    "ResizedCropTransforms",
    "SubsetId",
    "SyntheticImages",
    "decode_image",
    "labels_of",
    "long_tail_counts",
    "long_tail_indices",
    "read_class_names",
    "verify_shards",
]
