"""Joint training against cRT, LWS, tau-normalization and NCM on CIFAR-10-LT and CIFAR-100-LT.

python benchmarks/decoupled.py DATA.npz --name cifar100 --epochs 30 --seeds 0 1 2 --samplers instance

DATA.npz holds x_train, y_train, x_test, y_test (uint8, N x 32 x 32 x 3). The first n_c training images of
each class make the long tail. Every fifth test image is for validation, which chooses tau; accuracies
are those of the other four fifths, which nothing is chosen on. Trained backbones are kept in
benchmarks/cache/, so an interrupted run continues, and seeds and samplers can be added one by one.

The numbers that papers print are of the recipe, about 4 hours of one CPU core per seed at the least:

python benchmarks/decoupled.py DATA.npz --name cifar100_recipe --recipe --backbone cifar_resnet32 --epochs 200
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from _record import COMMIT, record

from longtail_lightning import (
    ArrayImages,
    BaseClassifier,
    ClassBalancedSampler,
    ClassCounts,
    CosineHead,
    Decoupled,
    InstanceBalancedSampler,
    LongTailDataModule,
    MLPHead,
    PaddedCropTransforms,
    ProgressivelyBalancedSampler,
    SquareRootSampler,
    SubsetId,
    TauNormalizedHead,
    WarmupMultiStep,
    create_backbone,
    extract_features,
    long_tail_counts,
)
from longtail_lightning.datasets.presets import CIFAR10, CIFAR100
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.methods import CRT, LWS, NCM, TauNormalization

CACHE = Path(__file__).parent / "cache"
SAMPLERS = {
    "instance": InstanceBalancedSampler,
    "class": ClassBalancedSampler,
    "sqrt": SquareRootSampler,
    "progressive": ProgressivelyBalancedSampler,
}
METHODS = {
    "crt": CRT(),
    "crt, cosine classifier": CRT(head=CosineHead),
    "crt, MLP of 2 layers": CRT(head=partial(MLPHead, depth=2, hidden=512)),
    "crt, MLP of 3 layers": CRT(head=partial(MLPHead, depth=3, hidden=512)),
    "lws": LWS(),
    "tau, chosen on val": TauNormalization(),
    "tau, chosen on train": TauNormalization(choose="train"),
    "tau, learned": TauNormalization(choose="learn"),
    "ncm": NCM(),
}
STATISTICS = {10: CIFAR10, 100: CIFAR100}


def images_of(images: np.ndarray, labels: np.ndarray) -> ArrayImages:
    """A data set of one split."""
    return ArrayImages(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), labels)


class CifarLT(LongTailDataModule):
    """The first n_c images of each class; a fifth of the test images is for validation."""

    def __init__(self, file: str, imbalance_factor: float, **options: Any) -> None:
        arrays = np.load(file)
        classes = int(arrays["y_train"].max()) + 1
        mean, std = STATISTICS[classes]
        super().__init__(
            transforms=PaddedCropTransforms(mean=mean, std=std),
            batch_size=128,
            device_resident=torch.cuda.is_available(),
            **options,
        )
        counts = long_tail_counts(classes, 50_000 / classes, imbalance_factor).tolist()
        taken = np.concatenate([np.flatnonzero(arrays["y_train"] == c)[:n] for c, n in enumerate(counts)])
        self.subset = SubsetId.of(f"ltmaster-v1-cifar{classes}-exp-{imbalance_factor:g}", taken)
        is_val = np.arange(len(arrays["y_test"])) % 5 == 0
        self.parts = {
            "train": images_of(arrays["x_train"][taken], arrays["y_train"][taken]),
            "val": images_of(arrays["x_test"][is_val], arrays["y_test"][is_val]),
            "test": images_of(arrays["x_test"][~is_val], arrays["y_test"][~is_val]),
        }

    def build(self, split: str) -> ArrayImages:
        return self.parts[split]


def stage_one(args: argparse.Namespace, sampler: str, seed: int) -> dict[str, Any]:
    """The trained parts, from the cache when they are there."""
    schedule = "-recipe" if args.recipe else ""
    key = f"{args.name}-{args.backbone}-if{args.factor:g}-{args.epochs}ep{schedule}-{sampler}-seed{seed}"
    path = CACHE / f"{key}.ckpt"
    if path.exists():
        return torch.load(path, weights_only=True)
    L.seed_everything(seed, verbose=False)
    make = SAMPLERS[sampler]
    if sampler == "progressive":
        data = CifarLT(args.file, args.factor, seed=seed, sampler=lambda labels: make(labels, epochs=args.epochs))
    else:
        data = CifarLT(args.file, args.factor, seed=seed, sampler=make)
    model = BaseClassifier(data.class_counts, backbone=create_backbone(args.backbone), **training(args))
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
    seconds = time.perf_counter() - start
    result = {"state": model.state_dict(), "seconds": seconds, "subset": str(data.subset), "commit": COMMIT}
    CACHE.mkdir(exist_ok=True)
    torch.save(result, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)
    print(f"{key}: {seconds:.0f} s", flush=True)
    return result


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Optimizer and schedule of the first stage."""
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    if not args.recipe:
        return {"optimizer": partial(sgd, nesterov=True, weight_decay=5e-4)}
    milestones = [args.epochs * 8 // 10, args.epochs * 9 // 10]
    return {
        "optimizer": partial(sgd, weight_decay=2e-4),
        "lr_scheduler": partial(WarmupMultiStep, milestones=milestones, gamma=0.01, warmup_epochs=5),
    }


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
    parser.add_argument("--recipe", action="store_true", help="first stage as in the recipes, not with a cosine")
    parser.add_argument("--through_images", action="store_true", help="also cRT that runs the backbone in each epoch")
    return parser.parse_args()


def evaluate(args: argparse.Namespace, sampler: str, seed: int) -> dict[str, Any]:
    """Test accuracy in percent of each head on the features of one backbone."""
    trained = stage_one(args, sampler, seed)
    data = CifarLT(args.file, args.factor, seed=seed)
    counts = data.class_counts
    model = BaseClassifier(counts, backbone=create_backbone(args.backbone))
    model.load_state_dict(trained["state"])
    start = time.perf_counter()
    banks = {
        split: extract_features(model.backbone, data, split=split, dtype=torch.float32, progress=False)
        for split in ("train", "val", "test")
    }
    seconds = {"stage_one": trained["seconds"], "features": time.perf_counter() - start}
    heads: dict[str, torch.nn.Module] = {"joint": model.head}
    for name, method in METHODS.items():
        start = time.perf_counter()
        heads[name] = method(model.head, banks["train"], banks["val"]).head
        seconds[name] = time.perf_counter() - start
    if args.through_images and sampler == "instance":
        for mode in ("eval", "train"):
            start = time.perf_counter()
            heads[f"crt through images, BatchNorm in {mode}"] = through_images(args, model, mode, seed)
            seconds[f"crt through images, BatchNorm in {mode}"] = time.perf_counter() - start
    taus = {name: round(head.tau, 3) for name, head in heads.items() if isinstance(head, TauNormalizedHead)}
    accuracy = {}
    for name, head in heads.items():
        bank = banks["test"]
        if isinstance(head, torch.nn.Sequential):  # its batch norms may have moved
            bank = extract_features(head[0], data, split="test", dtype=torch.float32, progress=False)
            head = head[1]
        accuracy[name] = per_split(class_accuracy(head, bank), counts)
    return {
        "sampler": sampler,
        "seed": seed,
        "subset": trained["subset"],
        "stage_one_commit": trained["commit"],
        "tau": taus,
        "accuracy": accuracy,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def through_images(args: argparse.Namespace, model: BaseClassifier, mode: str, seed: int) -> torch.nn.Module:
    """The same cRT with the backbone run in each of the 10 epochs, as public code does."""
    data = CifarLT(args.file, args.factor, seed=seed, sampler=ClassBalancedSampler)
    data.batch_size = 512
    decoupled = Decoupled(
        data.class_counts,
        backbone=copy.deepcopy(model.backbone),
        backbone_mode=mode,
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.2, momentum=0.9, weight_decay=5e-4),
    )
    L.Trainer(
        max_epochs=10,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(decoupled, data)
    return torch.nn.Sequential(decoupled.backbone, decoupled.head)


def per_split(per_class: torch.Tensor, counts: ClassCounts) -> dict[str, float | None]:
    """Means over the classes of each split, in percent."""
    values = {"all": per_class.nanmean().item()}
    for name, index in counts.shots():
        values[name] = per_class[index].nanmean().item() if len(index) else None
    return {name: None if value is None else round(100 * value, 2) for name, value in values.items()}


def main() -> None:
    """Train what is missing, compare the heads, and add the runs to the result file."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    args = arguments()
    runs = []
    for sampler in args.samplers:
        for seed in args.seeds:
            runs.append(evaluate(args, sampler, seed))
            print({name: row["all"] for name, row in runs[-1]["accuracy"].items()}, flush=True)
    summary = {
        sampler: {
            head: {
                split: summarize([run["accuracy"][head][split] for run in runs if run["sampler"] == sampler])
                for split in ("all", "many", "medium", "few")
            }
            for head in next(run["accuracy"] for run in runs if run["sampler"] == sampler)
        }
        for sampler in args.samplers
    }
    settings = {name: getattr(args, name) for name in ("backbone", "factor", "epochs", "recipe")}
    results = {"settings": settings, "speed": speed(runs), "summary": summary, "runs": runs}
    record(f"decoupled_{args.name}", results, seed=args.seeds)


def speed(runs: list[dict[str, Any]]) -> dict[str, float]:
    """How much longer cRT through images took than on the bank, the median over runs."""
    return {
        f"{name}, over crt on the bank": round(
            statistics.median(run["seconds"][name] / run["seconds"]["crt"] for run in runs if name in run["seconds"]), 1
        )
        for name in dict.fromkeys(name for run in runs for name in run["seconds"] if "through images" in name)
    }


def summarize(values: list[float | None]) -> dict[str, float] | None:
    """Mean and standard deviation; None for a split without classes."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    spread = statistics.stdev(known) if len(known) > 1 else 0.0
    return {"mean": round(statistics.mean(known), 2), "std": round(spread, 2)}


if __name__ == "__main__":
    main()
