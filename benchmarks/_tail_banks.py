"""Features of a small real long tail, and of the images that the tail leaves out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoupled import CACHE, images_of

from longtail_lightning import (
    ArrayImages,
    ClassCounts,
    FeatureBank,
    LongTailDataModule,
    ResizedCropTransforms,
    create_backbone,
    extract_features,
    long_tail_counts,
)

SPLITS = ("train", "val", "test")


class Tail(LongTailDataModule):
    """The first n_c images of each class; `rest` has the others. Every fifth test image is for validation.

    Args:
        args: `file`, an .npz of arrays; `factor`, the imbalance factor, 0 for the counts as they are; `thin`: of
            classes with fewer images than that, only a third is taken.
        image_size: side of the images that the model gets.
        rest: whether the training images are those that were left out.
    """

    def __init__(self, args: argparse.Namespace, *, image_size: int = 96, rest: bool = False, **options: Any) -> None:
        arrays = dict(np.load(args.file))
        if "split" in arrays:
            for part, number in (("train", 0), ("test", 1)):
                chosen = arrays["split"] == number
                arrays[f"x_{part}"], arrays[f"y_{part}"] = arrays["x"][chosen], arrays["y"][chosen]
        transforms = ResizedCropTransforms(
            image_size=image_size, resize=image_size, scale=(0.5, 1.0), mean=[0.5] * 3, std=[0.5] * 3
        )
        super().__init__(transforms=transforms, **options)
        self.names = [str(name).replace("_", " ") for name in arrays["classes"]]
        counts = np.bincount(arrays["y_train"], minlength=len(self.names))
        if args.factor:
            counts = np.array(long_tail_counts(len(counts), 50_000 / len(counts), args.factor).tolist())
        counts = np.where(counts < args.thin, -(-counts // 3), counts)
        places = [np.flatnonzero(arrays["y_train"] == c) for c in range(len(counts))]
        taken = np.concatenate([found[n:] if rest else found[:n] for found, n in zip(places, counts)])
        is_val = np.arange(len(arrays["y_test"])) % 5 == 0
        self.parts = {
            "train": images_of(arrays["x_train"][taken], arrays["y_train"][taken]),
            "val": images_of(arrays["x_test"][is_val], arrays["y_test"][is_val]),
            "test": images_of(arrays["x_test"][~is_val], arrays["y_test"][~is_val]),
        }

    @property
    def num_classes(self) -> int:
        return len(self.names)

    def build_class_names(self) -> list[str]:
        return self.names

    def build(self, split: str) -> ArrayImages:
        return self.parts[split]


def tail_banks(args: argparse.Namespace) -> dict[str, FeatureBank]:
    """Features of each split, and of `rest`, from an EfficientNet-Lite0; kept in benchmarks/cache."""
    banks = {}
    for split in (*SPLITS, "rest"):
        path = CACHE / f"{args.name}-tail" / split
        if not (Path(path) / "bank.json").exists():
            data = Tail(args, rest=split == "rest", batch_size=128)
            encoder = create_backbone("tf_efficientnet_lite0", weights=args.encoder)
            extract_features(encoder, data, path, split="train" if split == "rest" else split, dtype=torch.float32)
        banks[split] = FeatureBank.load(path)
    return banks


def counts_of(banks: dict[str, FeatureBank]) -> ClassCounts:
    """Training images per class."""
    return banks["train"].class_counts
