"""Knowledge transfer from common to rare classes: tables 1, 2, 4-8 and the controls, on small real long tails.

python benchmarks/prototype_transfer.py DATA.npz --name cifar100 --epochs 15 --seeds 0 1 2
python benchmarks/prototype_transfer.py DATA.npz --name cifar100_lite0 --encoder WEIGHTS --seeds 0 1 2
python benchmarks/prototype_transfer.py DATA.npz --name caltech101_lite0 --encoder WEIGHTS --factor 0 --seeds 0 1 2

DATA.npz holds x_train, y_train, x_test, y_test (uint8, N x height x width x 3), and fine_to_coarse where classes have
superclasses; or x, y and split (0 train, 1 test). The first n_c training images of each class make the long tail;
`--factor 0` takes all. Every fifth test image is for validation; accuracies are those of the other four fifths. With
`--encoder`, a file with weights of EfficientNet-Lite0, nothing but the cosine classifier is trained. Trained models and
features are kept in benchmarks/cache/, so an interrupted run continues.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from _record import COMMIT, record
from _transfer_measures import beyond, continual, kinship, rejection, separability, sweeps, table_one
from decoupled import CACHE, STATISTICS, images_of, summarize

from longtail_lightning import (
    ArrayImages,
    BalancedSoftmaxLoss,
    BaseClassifier,
    ClassAwareSampler,
    ClassCounts,
    CosineHead,
    CrossEntropyLoss,
    FeatureBank,
    InstanceBalancedSampler,
    LinearHead,
    LongTailDataModule,
    PaddedCropTransforms,
    ResizedCropTransforms,
    SquareRootSampler,
    create_backbone,
    extract_features,
    fit_head,
    long_tail_counts,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "sqrt": {"sampler": SquareRootSampler, "head": CosineHead, "loss": CrossEntropyLoss},
    "uniform": {"sampler": InstanceBalancedSampler, "head": CosineHead, "loss": CrossEntropyLoss},
    "class_aware": {"sampler": ClassAwareSampler, "head": CosineHead, "loss": CrossEntropyLoss},
    "dot": {"sampler": InstanceBalancedSampler, "head": LinearHead, "loss": CrossEntropyLoss},
    "balanced_softmax": {"sampler": InstanceBalancedSampler, "head": CosineHead, "loss": BalancedSoftmaxLoss},
    "few_excluded": {"sampler": SquareRootSampler, "head": CosineHead, "loss": CrossEntropyLoss},
}


class Tail(LongTailDataModule):
    """The first n_c images of each class, without few-shot classes if asked."""

    def __init__(self, args: argparse.Namespace, variant: str = "sqrt", **options: Any) -> None:
        arrays = dict(np.load(args.file))
        if "split" in arrays:
            for part, number in (("train", 0), ("test", 1)):
                chosen = arrays["split"] == number
                arrays[f"x_{part}"], arrays[f"y_{part}"] = arrays["x"][chosen], arrays["y"][chosen]
        classes = int(arrays["y_train"].max()) + 1
        transforms: Any
        if args.encoder:
            transforms = ResizedCropTransforms(image_size=96, resize=96, mean=[0.5] * 3, std=[0.5] * 3)
        else:
            mean, std = STATISTICS[classes]
            transforms = PaddedCropTransforms(mean=mean, std=std)
        super().__init__(transforms=transforms, batch_size=128, **options)
        counts = np.bincount(arrays["y_train"], minlength=classes)
        if args.factor:
            counts = np.array(long_tail_counts(classes, 50_000 / classes, args.factor).tolist())
        self.full = ClassCounts(counts.tolist())
        if variant == "few_excluded":
            counts = np.where(counts <= 20, 0, counts)
        taken = np.concatenate([np.flatnonzero(arrays["y_train"] == c)[:n] for c, n in enumerate(counts)])
        is_val = np.arange(len(arrays["y_test"])) % 5 == 0
        self.parts = {
            "train": images_of(arrays["x_train"][taken], arrays["y_train"][taken]),
            "val": images_of(arrays["x_test"][is_val], arrays["y_test"][is_val]),
            "test": images_of(arrays["x_test"][~is_val], arrays["y_test"][~is_val]),
        }
        self.coarse = torch.from_numpy(arrays["fine_to_coarse"]).long() if "fine_to_coarse" in arrays else None
        self.classes = classes

    @property
    def num_classes(self) -> int:
        return self.classes

    def build(self, split: str) -> ArrayImages:
        return self.parts[split]


def cached(path: Path, make: Any) -> Any:
    """What `make` gives, kept in a file."""
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        made = make()
        torch.save(made, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return torch.load(path, weights_only=True)


def banks_and_head(args: argparse.Namespace, variant: str, seed: int) -> tuple[dict[str, FeatureBank], Any, Tail]:
    """Features of all images, of the few-shot classes too, and the classifier that was trained on them."""
    full = Tail(args, seed=seed)
    kind = VARIANTS[variant]
    head = kind["head"](1280 if args.encoder else 64, full.classes)
    if args.encoder:
        key = CACHE / f"{args.name}-features.pt"
        kept = cached(key, lambda: features_of(create_backbone("tf_efficientnet_lite0"), full, args.encoder))
        banks = {split: FeatureBank.from_arrays(x, y, num_classes=full.classes) for split, (x, y) in kept.items()}
        train, counts = banks["train"], full.full
        if variant == "few_excluded":
            labels = train.require_labels("this benchmark")
            train, counts = train.subset(full.full.tensor[labels] > 20), None
        loss = kind["loss"](counts) if variant == "balanced_softmax" else kind["loss"]()
        options = {"epochs": args.epochs, "lr": 0.5, "batch_size": 128, "seed": seed, "progress": False}
        trained = fit_head(train, head, sampler=kind["sampler"], loss=loss, **options)
        return banks, trained, full
    key = CACHE / f"{args.name}-transfer-{variant}-{args.epochs}ep-seed{seed}.ckpt"
    state = cached(key, lambda: train_model(args, variant, seed))
    model = BaseClassifier(full.full, backbone=create_backbone("cifar_resnet20"), head=head)
    model.load_state_dict(state)
    kept = features_of(model.backbone, full)
    banks = {split: FeatureBank.from_arrays(x, y, num_classes=full.classes) for split, (x, y) in kept.items()}
    return banks, model.head, full


def train_model(args: argparse.Namespace, variant: str, seed: int) -> dict[str, torch.Tensor]:
    """State of a model that was trained from scratch."""
    L.seed_everything(seed, verbose=False)
    kind = VARIANTS[variant]
    data = Tail(args, variant, seed=seed, sampler=kind["sampler"])
    model = BaseClassifier(
        data.class_counts,
        backbone=create_backbone("cifar_resnet20"),
        head=kind["head"],
        loss=kind["loss"](),
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    )
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    L.Trainer(max_epochs=args.epochs, limit_val_batches=0, **quiet).fit(model, data)
    return model.state_dict()


def features_of(backbone: Any, data: Tail, weights: str | None = None) -> dict[str, Any]:
    """Features and labels of each split."""
    if weights is not None:
        from longtail_lightning import load_weights

        load_weights(backbone, weights)
    banks = {
        split: extract_features(backbone, data, split=split, dtype=torch.float32, progress=False)
        for split in ("train", "val", "test")
    }
    return {split: (bank.features, bank.labels) for split, bank in banks.items()}


# -- the runs ----------------------------------------------------------------------------------------


def evaluate(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Everything of one seed."""
    run: dict[str, Any] = {"seed": seed}
    for variant in [*args.variants, *(args.once if seed == args.seeds[0] else ())]:
        banks, head, data = banks_and_head(args, variant, seed)
        counts = data.full
        if variant == "few_excluded":
            if bool((counts.tensor <= 20).any()):
                run["rejection of unseen classes"] = rejection(banks, head, counts)
            run[variant] = continual(banks, head, counts)
            continue
        with_k = int(counts.tensor.max()) > 100
        found = {"separability": separability(banks, head, counts)}
        if with_k:
            found |= {"table 1": table_one(banks, head, counts)}
        if variant == "sqrt" and with_k:
            found |= {"sweeps": sweeps(banks, head, counts), "beyond the paper": beyond(banks, head, counts)}
            if data.coarse is not None:
                found["attention inside the superclass"] = kinship(banks, head, counts, data.coarse)
        run[variant] = found
        print(seed, variant, {name: row["few"] for name, row in found["table 1"]["rows"].items()}, flush=True)
    return run


def means(values: list[Any]) -> Any:
    """Mean and spread over seeds of numbers at the same place."""
    if isinstance(values[0], dict):
        return {key: means([value[key] for value in values if key in value]) for key in values[0]}
    if isinstance(values[0], list):
        return [round(float(np.mean(column)), 4) for column in zip(*values)]
    return summarize(values) if values[0] is not None else None


def main() -> None:
    """Train what is missing, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help=".npz with the images")
    parser.add_argument("--name", required=True, help="of the result file")
    parser.add_argument("--factor", type=float, default=100.0, help="imbalance factor; 0 takes all images")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--encoder", metavar="FILE", help="weights of a frozen EfficientNet-Lite0")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--once", nargs="*", default=[], choices=list(VARIANTS), help="with the first seed alone")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    runs = [evaluate(args, seed) for seed in args.seeds]
    settings = {name: getattr(args, name) for name in ("factor", "epochs", "variants", "once")}
    settings |= {"encoder": "tf_efficientnet_lite0" if args.encoder else None, "bounds": "oltr", "code": COMMIT}
    summary = means([{key: value for key, value in run.items() if key != "seed"} for run in runs])
    record(f"prototype_transfer_{args.name}", {"settings": settings, "summary": summary, "runs": runs}, seed=args.seeds)


if __name__ == "__main__":
    main()
