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
import torch.nn.functional as F
from _record import COMMIT, record
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
    PrototypeTransfer,
    ResizedCropTransforms,
    SquareRootSampler,
    create_backbone,
    extract_features,
    fit_head,
    long_tail_counts,
)
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.heads import EnsembleHead, KnowledgeTransferHead, PrototypeHead
from longtail_lightning.methods import KnowledgeTransfer

VARIANTS: dict[str, dict[str, Any]] = {
    "sqrt": {"sampler": SquareRootSampler, "head": CosineHead, "loss": CrossEntropyLoss},
    "uniform": {"sampler": InstanceBalancedSampler, "head": CosineHead, "loss": CrossEntropyLoss},
    "class_aware": {"sampler": ClassAwareSampler, "head": CosineHead, "loss": CrossEntropyLoss},
    "dot": {"sampler": InstanceBalancedSampler, "head": LinearHead, "loss": CrossEntropyLoss},
    "balanced_softmax": {"sampler": InstanceBalancedSampler, "head": CosineHead, "loss": BalancedSoftmaxLoss},
    "few_excluded": {"sampler": SquareRootSampler, "head": CosineHead, "loss": CrossEntropyLoss},
}
ATTENTIONS = ("p->w", "w->p", "w->w", "p->p")
SHOTS = (1, 3, 5, None)
KS = (0, 5, 10, 20, 50, 100, 200)
TAUS = (0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0)


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


# -- what is measured ------------------------------------------------------------------------------


def accuracies(head: Any, bank: FeatureBank, counts: ClassCounts) -> dict[str, float | None]:
    """Percent per split (the paper's bounds), and among the classes of each split alone."""
    splits = counts.shots(convention="oltr")
    found = class_accuracy(head, bank)
    within = class_accuracy(head, bank, groups=splits.numbers())
    groups = {name: found[index] for name, index in splits} | {"all": found}
    groups |= {f"{name} among themselves": within[index] for name, index in splits}
    return {name: round(100 * float(values.nanmean()), 2) if len(values) else None for name, values in groups.items()}


def table_one(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts, test: str = "test") -> dict[str, Any]:
    """All rows of table 1 with the controls; tau 10 as in the paper, and the ensemble's tau chosen on validation."""
    rows = {"cosine classifier": accuracies(head, banks[test], counts)}
    methods = PrototypeTransfer(counts, backbone="cifar_resnet20").methods()
    for method in methods:
        rows[method.label] = accuracies(method(head, banks["train"]).head, banks[test], counts)
    chosen = KnowledgeTransfer(tau="val", taus=TAUS)(head, banks["train"], banks["val"])
    rows["knowledge transfer, tau on val"] = accuracies(chosen.head, banks[test], counts)
    return {"rows": rows, "tau chosen on val": chosen.details["tau"]}


def sweeps(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """Table 6, and w_h over k and tau, on validation images."""
    train, val = banks["train"], banks["val"]
    ks = [k for k in KS if k < int(counts.tensor.max())]
    return {
        "attention (table 6), test": {
            attention: accuracies(KnowledgeTransfer(attention=attention)(head, train).head, banks["test"], counts)
            for attention in ATTENTIONS
        },
        "k": {str(k): accuracies(KnowledgeTransfer(k=k)(head, train).head, val, counts) for k in ks},
        "tau": {f"{tau:g}": accuracies(KnowledgeTransfer(tau=tau)(head, train).head, val, counts) for tau in TAUS},
    }


def separability(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """Figures 4, 5 and 7 and table 5: prototypes of one split scored on others; tables 4 and 8: the classifier."""
    found: dict[str, Any] = {"classifier": accuracies(head, banks["test"], counts)}
    for source in ("train", "val"):
        prototypes = PrototypeHead(banks[source].num_features, banks[source].num_classes).fit(banks[source])
        for target in ("train", "val", "test"):
            found[f"{source} prototypes on {target}"] = accuracies(prototypes, banks[target], counts)
    p = F.normalize(
        PrototypeHead(banks["train"].num_features, len(counts)).fit(banks["train"]).classes.prototypes, dim=1
    )
    cosines = p @ F.normalize(head.weight.detach(), dim=1).T
    found["prototypes that are closer to another class's weight"] = int(
        (cosines.argmax(1) != torch.arange(len(counts))).sum()
    )
    found["sorted cosines (figure 8)"] = [
        round(float(v), 4) for v in cosines.sort(1, descending=True).values.mean(0)[:50]
    ]
    return found


def kinship(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts, coarse: torch.Tensor) -> dict[str, float]:
    """Share of the attention that stays in the superclass, the class itself left out, for few-shot classes and all."""
    made = KnowledgeTransferHead(banks["train"].num_features, len(counts), k=20).fit(banks["train"], counts, head)
    few = set(counts.shots(convention="oltr").few.tolist())
    shares: dict[str, list[float]] = {"few": [], "all": []}
    for c in range(len(counts)):
        donors = [(d, share) for d, share in made.donors_of(c, top=len(counts)) if d != c]
        inside = sum(share for d, share in donors if coarse[d] == coarse[c]) / sum(share for _, share in donors)
        shares["all"].append(inside)
        if c in few:
            shares["few"].append(inside)
    chance = float(np.mean([((coarse == coarse[c]).sum() - 1).item() / (len(counts) - 1) for c in range(len(counts))]))
    return {name: round(float(np.mean(values)), 4) for name, values in shares.items() if values} | {
        "chance": round(chance, 4)
    }


def continual(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """Table 2: classes that the model never saw, added from 1, 3, 5 or all of their pictures."""
    train, few = banks["train"], counts.tensor <= 20
    labels = train.require_labels("this benchmark")
    weight = head.weight.detach().clone()
    weight[few] = 0
    scale = float(head.scale.detach())
    answers: dict[str, Any] = {"cosine classifier": _masked(head, few, banks["test"], counts)}
    for shots in SHOTS:
        place = torch.zeros(len(labels), dtype=torch.int64)
        for c in range(len(counts)):
            place[labels == c] = torch.arange(int((labels == c).sum()))
        kept = train.subset(~few[labels] | (place < (10**9 if shots is None else shots)))
        options = {"parts": ("transfer", "prototype"), "scale": scale}
        size = (train.num_features, len(counts))
        heads = [PrototypeHead(*size, scale=scale), *(KnowledgeTransferHead(*size, k=k, **options) for k in (20, 100))]
        ensemble = EnsembleHead(heads, shared=True)
        heads[0].classes.fit(kept, None, weight)
        ensemble.refit()
        named = {"prototypes": heads[0], "w_hc(20)": heads[1], "w_hc(100)": heads[2], "ensemble": ensemble}
        pictures = "all pictures" if shots is None else f"{shots} pictures"
        for name, made in named.items():
            answers[f"{name}, {pictures}"] = accuracies(made, banks["test"], counts)
        if shots is None:  # the mistake that the library does not make: learned weights beside prototypes
            imprinted = CosineHead(*size)
            with torch.no_grad():
                imprinted.weight.copy_(F.normalize(weight, dim=1) + few[:, None] * heads[0].classes.prototypes)
            answers["old weights beside new prototypes"] = accuracies(imprinted, banks["test"], counts)
    return answers


def _masked(head: Any, few: torch.Tensor, bank: FeatureBank, counts: ClassCounts) -> dict[str, float | None]:
    """The classifier among the classes that it was trained on."""
    known = CosineHead(bank.num_features, len(counts))
    with torch.no_grad():
        known.weight.copy_(head.weight)
        known.weight[few] = -F.normalize(head.weight[~few], dim=1).sum(0)
    return accuracies(known, bank, counts)


# -- the runs ----------------------------------------------------------------------------------------


def evaluate(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Everything of one seed."""
    run: dict[str, Any] = {"seed": seed}
    for variant in args.variants:
        banks, head, data = banks_and_head(args, variant, seed)
        counts = data.full
        if variant == "few_excluded":
            run[variant] = continual(banks, head, counts)
            continue
        with_k = int(counts.tensor.max()) > 100
        found = {"separability": separability(banks, head, counts)}
        if with_k:
            found |= {"table 1": table_one(banks, head, counts)}
        if variant == "sqrt" and with_k:
            found |= {"sweeps": sweeps(banks, head, counts)}
            if data.coarse is not None:
                found["attention inside the superclass"] = kinship(banks, head, counts, data.coarse)
        run[variant] = found
        print(seed, variant, {name: row["few"] for name, row in found["table 1"]["rows"].items()}, flush=True)
    return run


def means(values: list[Any]) -> Any:
    """Mean and spread over seeds of numbers at the same place."""
    if isinstance(values[0], dict):
        return {key: means([value[key] for value in values]) for key in values[0]}
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
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    runs = [evaluate(args, seed) for seed in args.seeds]
    settings = {name: getattr(args, name) for name in ("factor", "epochs", "variants")}
    settings |= {"encoder": "tf_efficientnet_lite0" if args.encoder else None, "bounds": "oltr", "code": COMMIT}
    summary = means([{key: value for key, value in run.items() if key != "seed"} for run in runs])
    record(f"prototype_transfer_{args.name}", {"settings": settings, "summary": summary, "runs": runs}, seed=args.seeds)


if __name__ == "__main__":
    main()
