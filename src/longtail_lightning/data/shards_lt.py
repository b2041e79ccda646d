"""Train from the shards that `ltl data prepare` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.data.options import DataOptions
from longtail_lightning.datasets.decode import MAX_PIXELS
from longtail_lightning.datasets.image_shards import ImageShards
from longtail_lightning.datasets.presets import TransformsLike
from longtail_lightning.datasets.shard_manifest import read_manifest


class ShardsLT(LongTailDataModule):
    """Images in the large files of `ltl data prepare`, in place of the folder, list or table they come from.

    Order, labels and class names are the same, so samplers, held-out images and long-tailed subsets are as
    well: a run gives the same result from either. Under DDP each process maps the same files and reads the
    images of its own share.

    Args:
        root: the prepared folder.
        transforms: a preset (`"imagenet"`, `"clip"`, ...) or `ResizedCropTransforms(...)`.
        verify: read all files before training, and compare them with their checksums.
        max_pixels: images with more pixels are not decoded, see `decode_image`.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from longtail_lightning import SyntheticLongTail, prepare_shards
        >>> with TemporaryDirectory() as folder:
        ...     _ = prepare_shards(SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2), folder)
        ...     dm = ShardsLT(folder)
        ...     dm.class_counts, dm.class_names[0], dm.item_name(7)
        (ClassCounts([4, 2, 2]), 'fan-3 red', '7')
    """

    def __init__(
        self,
        root: str | Path,
        *,
        transforms: TransformsLike = "imagenet",
        verify: bool = False,
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(
            transforms=transforms,
            **options,
        )
        self.root = Path(root).expanduser()
        self.verify = verify
        self.max_pixels = max_pixels
        self._verified = False

    @property
    def num_classes(self) -> int:
        return len(self._manifest["class_names"])

    @property
    def _manifest(self) -> dict[str, Any]:
        return read_manifest(self.root)

    def build(self, split: Split) -> ImageShards | None:
        if split not in self._manifest["splits"]:
            return None
        verify = self.verify and not self._verified  # one reading is for all splits
        images = ImageShards(self.root, split, verify=verify, max_pixels=self.max_pixels)
        self._verified = True
        return images

    def build_class_names(self) -> list[str]:
        return list(self._manifest["class_names"])
