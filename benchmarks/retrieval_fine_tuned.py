"""Retrieval-augmented classification with a base network that is fine-tuned, beside the base alone.

python benchmarks/retrieval_fine_tuned.py DATA.npz --name cifar100_lite0 --encoder WEIGHTS --seeds 0 1 2

Both are EfficientNet-Lite0 with the same ImageNet weights: frozen at 96 pixels as the encoder, fine-tuned at
`--image_size` as the base. Neighbors are those of the images without augmentation, found once (`neighbors="cached"`).
Learning rates are chosen on validation images with the first seed; the scale is the default. DATA.npz is described in
retrieval_augmented.py.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from functools import partial
from typing import Any

import lightning as L
import torch
from _rac_runs import rounded
from _record import COMMIT, record
from _tail_banks import Tail, counts_of, tail_banks
from retrieval_augmented import mean

from longtail_lightning import (
    FeatureBank,
    NormalizedSum,
    PerClassAccuracy,
    PreparedBackbone,
    RetrievalAugmented,
    RetrievalMemory,
    create_backbone,
)
from longtail_lightning.counts import split_means


def train(
    args: argparse.Namespace, memory: RetrievalMemory, branches: str, lr: float, seed: int, *, exact: bool = False
) -> tuple[Any, float]:
    """A model, and the seconds that its training took."""
    L.seed_everything(seed, verbose=False)
    data = Tail(args, image_size=args.image_size, batch_size=64, seed=seed)
    model = RetrievalAugmented(
        data.class_counts,
        memory=memory,
        encoder=PreparedBackbone(
            create_backbone("tf_efficientnet_lite0", weights=args.encoder), size=96, mean=[0.5] * 3, std=[0.5] * 3
        ),
        backbone=create_backbone("tf_efficientnet_lite0", weights=args.encoder),
        branches=branches,  # type: ignore[arg-type]
        neighbors="exact" if branches == "base" or exact else "cached",
        fusion=NormalizedSum(args.scale),
        optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.02),
    )
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    start = time.perf_counter()
    L.Trainer(max_epochs=args.epochs, limit_val_batches=0, gradient_clip_val=1.0, **quiet).fit(model, data)
    return model.eval(), time.perf_counter() - start


@torch.inference_mode()
def measure(args: argparse.Namespace, model: Any, split: str, bank: FeatureBank) -> dict[str, Any]:
    """Accuracy of the model and its branches; queries are the features in the bank."""
    data = Tail(args, image_size=args.image_size, batch_size=256)
    metrics: dict[str, PerClassAccuracy] = {}
    done = 0
    for images, labels, *_ in data.ordered_dataloader(split):
        images = data.prepare_batch(images)
        base = model.head(model.backbone(images.contiguous(memory_format=torch.channels_last)))
        found = {"logits": base}
        if model.branches == "both":
            numbers = model.lookup.find(bank.features[done : done + len(images)])
            retrieved = model.retrieval_logits(numbers)
            found = {"logits": model.fusion(base, retrieved), "base": base, "retrieval": retrieved}
        for name, logits in found.items():
            metrics.setdefault(name, PerClassAccuracy(data.num_classes)).update(logits, labels)
        done += len(images)
    splits = model.class_counts.shots()
    return {name: rounded(split_means(metric.compute(), splits)) for name, metric in metrics.items()}


def main() -> None:
    """Train both for each seed, edit the memory of one, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help=".npz with the images")
    parser.add_argument("--name", required=True, help="of the features and of the result file")
    parser.add_argument("--encoder", required=True, metavar="FILE", help="weights of EfficientNet-Lite0")
    parser.add_argument("--factor", type=float, default=100.0, help="imbalance factor; 0 takes all images")
    parser.add_argument("--thin", type=int, default=0, help="of classes with fewer images, take a third")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--lrs", type=float, nargs="+", default=[3e-4, 1e-3])
    parser.add_argument("--scale", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--exact", action="store_true", help="also with neighbors of the augmented images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    banks = tail_banks(args)
    runs, tried = [], []
    chosen = {"base": args.lrs, "both": args.lrs}
    for seed in args.seeds:
        run: dict[str, Any] = {}
        for branches, lrs in chosen.items():
            candidates = []
            for lr in lrs:
                memory = RetrievalMemory.build(banks["train"])
                model, seconds = train(args, memory, branches, lr, seed)
                val = measure(args, model, "val", banks["val"])["logits"]
                candidates.append((val["all"], lr, model, seconds))
                tried.append({"seed": seed, "branches": branches, "lr": lr, "val": val})
                print(tried[-1], flush=True)
            _, lr, model, seconds = max(candidates, key=lambda one: one[0])
            chosen = {**chosen, branches: [lr]}
            run[branches] = {**measure(args, model, "test", banks["test"]), "seconds": round(seconds, 1)}
        if args.exact:
            memory = RetrievalMemory.build(banks["train"])
            looking, seconds = train(args, memory, "both", chosen["both"][0], seed, exact=True)
            found = measure(args, looking, "test", banks["test"])
            run["both, neighbors of augmented images"] = {**found, "seconds": round(seconds, 1)}
        model.memory.add_source("rest", banks["rest"])
        run["both, left-out images added"] = measure(args, model, "test", banks["test"])
        runs.append(run)
        print(seed, run, flush=True)
    settings = {key: getattr(args, key) for key in ("factor", "thin", "epochs", "image_size", "lrs", "scale")}
    counts = counts_of(banks)
    results = {
        "settings": {**settings, "code": COMMIT},
        "chosen": chosen,
        "tried": tried,
        "class_counts": counts.tolist(),
        "summary": mean(runs),
        "runs": runs,
    }
    record(f"retrieval_fine_tuned_{args.name}", results, seed=args.seeds)


if __name__ == "__main__":
    main()
