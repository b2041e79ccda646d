"""Train from the shards that `ltl data prepare` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from longtail_lightning.data.datamodule import LongTailDataModule, SamplerCallable, Split
from longtail_lightning.datasets.image_shards import ImageShards, read_manifest
from longtail_lightning.datasets.long_tail import Draw, Profile
from longtail_lightning.datasets.presets import TransformsLike, as_transforms


class ShardsLT(LongTailDataModule):
    """Images in the large files of `ltl data prepare`, in place of the folder, list or table they come from.

    Order, labels and class names are the same, so samplers, held-out images and long-tailed subsets are as
    well: a run gives the same result from either. Under DDP each process maps the same files and reads the
    images of its own share.

    Args:
        root: the prepared folder.
        transforms: a preset (`"imagenet"`, `"clip"`, ...) or `ResizedCropTransforms(...)`.
        batch_size: images per batch and process.
        num_workers: processes that decode images.
        sampler: from labels to training sampler; instance-balanced by default.
        val_split: share of each training class to hold out when there is no validation split.
        imbalance_factor: make the training set long-tailed; None takes all of it.
        profile: shape of that tail.
        max_count: images of its class 0; the mean class size when None.
        subset_draw: whether that subset keeps `"random"` images of each class or its `"first"` ones.
        subset_seed: which random images it keeps.
        on_error: what training does at an unreadable image: `"raise"` or `"skip"`.
        seed: seed of order, held-out images and augmentation.
        mixup_alpha: strength of mixup, 0 for none.
        cutmix_alpha: strength of cutmix, 0 for none.

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
        batch_size: int = 128,
        num_workers: int = 0,
        sampler: SamplerCallable | None = None,
        val_split: float = 0.0,
        imbalance_factor: float | None = None,
        profile: Profile = "exp",
        max_count: int | None = None,
        subset_draw: Draw = "random",
        subset_seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        seed: int = 0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
    ) -> None:
        super().__init__(
            transforms=as_transforms(transforms),
            batch_size=batch_size,
            num_workers=num_workers,
            sampler=sampler,
            val_split=val_split,
            imbalance_factor=imbalance_factor,
            profile=profile,
            max_count=max_count,
            subset_draw=subset_draw,
            subset_seed=subset_seed,
            on_error=on_error,
            seed=seed,
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
        )
        self.root = Path(root).expanduser()

    @property
    def num_classes(self) -> int:
        return len(self._manifest["class_names"])

    @property
    def _manifest(self) -> dict[str, Any]:
        return read_manifest(self.root)

    def build(self, split: Split) -> ImageShards | None:
        return ImageShards(self.root, split) if split in self._manifest["splits"] else None

    def build_class_names(self) -> list[str]:
        return list(self._manifest["class_names"])
