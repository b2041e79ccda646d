"""Joint training against cRT, LWS, tau-normalization and NCM on CIFAR-10-LT and CIFAR-100-LT.

python benchmarks/decoupled.py DATA.npz --name cifar100 --epochs 30 --seeds 0 1 2 --samplers instance

DATA.npz holds x_train, y_train, x_test, y_test (uint8, N x 32 x 32 x 3). The first n_c training images of
each class make the long tail. Every fifth test image is for validation, which chooses tau; accuracies
are those of the other four fifths. Trained backbones are kept in benchmarks/cache/, so an interrupted run
continues, and seeds and samplers can be added one by one.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import Dataset

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    InstanceBalancedSampler,
    LongTailDataModule,
    PaddedCropTransforms,
    ProgressivelyBalancedSampler,
    SquareRootSampler,
    SubsetId,
    create_backbone,
    long_tail_counts,
)
from longtail_lightning.data.presets import CIFAR10, CIFAR100

CACHE = Path(__file__).parent / "cache"
SAMPLERS = {
    "instance": InstanceBalancedSampler,
    "class": ClassBalancedSampler,
    "sqrt": SquareRootSampler,
    "progressive": ProgressivelyBalancedSampler,
}
STATISTICS = {10: CIFAR10, 100: CIFAR100}


class Images(Dataset[Any]):
    """Images and labels in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        self.labels = torch.from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.images[index], int(self.labels[index])

    def batch(self, indices: list[int]) -> Any:
        """Many at once."""
        return self.images[indices], self.labels[indices]


class CifarLT(LongTailDataModule):
    """The first n_c images of each class; a fifth of the test images is for validation."""

    def __init__(self, file: str, imbalance_factor: float, **options: Any) -> None:
        arrays = np.load(file)
        classes = int(arrays["y_train"].max()) + 1
        mean, std = STATISTICS[classes]
        super().__init__(transforms=PaddedCropTransforms(mean=mean, std=std), batch_size=128, **options)
        counts = long_tail_counts(classes, 50_000 / classes, imbalance_factor).tolist()
        taken = np.concatenate([np.flatnonzero(arrays["y_train"] == c)[:n] for c, n in enumerate(counts)])
        self.subset = SubsetId.of(f"ltmaster-v1-cifar{classes}-exp-{imbalance_factor:g}", taken)
        is_val = np.arange(len(arrays["y_test"])) % 5 == 0
        self.parts = {
            "train": Images(arrays["x_train"][taken], arrays["y_train"][taken]),
            "val": Images(arrays["x_test"][is_val], arrays["y_test"][is_val]),
            "test": Images(arrays["x_test"][~is_val], arrays["y_test"][~is_val]),
        }

    def build(self, split: str) -> Images:  # noqa: D102
        return self.parts[split]


def stage_one(args: argparse.Namespace, sampler: str, seed: int) -> dict[str, Any]:
    """The trained parts, from the cache when they are there."""
    key = f"{args.name}-{args.backbone}-if{args.factor:g}-{args.epochs}ep-{sampler}-seed{seed}"
    path = CACHE / f"{key}.ckpt"
    if path.exists():
        return torch.load(path, weights_only=True)
    L.seed_everything(seed, verbose=False)
    make = SAMPLERS[sampler]
    if sampler == "progressive":
        data = CifarLT(args.file, args.factor, seed=seed, sampler=lambda labels: make(labels, epochs=args.epochs))
    else:
        data = CifarLT(args.file, args.factor, seed=seed, sampler=make)
    model = BaseClassifier(
        data.class_counts,
        backbone=create_backbone(args.backbone),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    )
    trainer = L.Trainer(
        max_epochs=args.epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(model, data)
    result = {"state": model.state_dict(), "seconds": time.perf_counter() - start, "subset": str(data.subset)}
    CACHE.mkdir(exist_ok=True)
    torch.save(result, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)
    print(f"{key}: {result['seconds']:.0f} s", flush=True)
    return result


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--name", required=True, help="of the data set, for the result file")
    parser.add_argument("--backbone", default="cifar_resnet20")
    parser.add_argument("--factor", type=float, default=100.0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samplers", nargs="+", default=["instance"], choices=sorted(SAMPLERS))
    return parser.parse_args()


def main() -> None:
    """Train what is missing, then compare the heads."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    args = arguments()
    for sampler in args.samplers:
        for seed in args.seeds:
            stage_one(args, sampler, seed)


def summarize(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": round(statistics.mean(values), 2), "std": round(statistics.stdev(values), 2)}


if __name__ == "__main__":
    main()
