"""What is done to images before training: check them, list the good ones, copy them into shards."""

from longtail_lightning.curation.check import check_images as check_images
from longtail_lightning.curation.data_report import DataReport as DataReport
from longtail_lightning.curation.prepare import prepare_shards as prepare_shards

__all__ = ["DataReport", "check_images", "prepare_shards"]
