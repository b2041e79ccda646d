"""Retrieval-augmented classification: base, retrieval and both, ablations, and what edits of the memory do.

python benchmarks/retrieval_augmented.py DATA.npz --name cifar100_lite0 --encoder WEIGHTS --seeds 0 1 2
python benchmarks/retrieval_augmented.py DATA.npz --name caltech101_lite0 --encoder WEIGHTS --factor 0 --thin 60 \
    --without_ablations

DATA.npz holds x_train, y_train, x_test, y_test and classes (uint8, N x height x width x 3), or x, y, split (0 train, 1
test) and classes. The first n_c training images of each class make the long tail (`--factor 0`: all; `--thin 60`: of
classes with fewer than 60, a third); what is left out is added to the memory later. Every fifth test image is for
validation, on which learning rates and scales are chosen with the first seed; accuracies are those of the others.
Encoder and base see the same features of a frozen EfficientNet-Lite0, kept in benchmarks/cache/.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _rac_runs import Banks, edited, measure, per_class, rounded, train
from _record import COMMIT, record
from _tail_banks import counts_of, tail_banks

from longtail_lightning import (
    BagOfWords,
    CrossEntropyLoss,
    FaissIndex,
    FeatureBank,
    HuggingFaceText,
    JoinedTexts,
    LogitAdjustedLoss,
    PerClassAccuracy,
    RetrievalMemory,
)
from longtail_lightning.counts import split_means
from longtail_lightning.retrieval.vote import vote

RATES = {"base": (1e-4, 3e-4, 1e-3), "retrieval": (1e-3, 3e-3, 1e-2), "both": (3e-4, 1e-3, 3e-3)}
SCALES = (4.0, 6.0, 8.0, 12.0)
ROWS: dict[str, dict[str, Any]] = {
    "base, linear": {"branches": "base"},
    "base, MLP": {"branches": "base", "head": "mlp"},
    "retrieval alone": {"branches": "retrieval"},
    "both, linear base": {"scales": SCALES},
    "both, MLP base": {"head": "mlp", "scales": SCALES},
    "both, learned scale": {"fusion": "learned"},
    "both, gate": {"fusion": "gate"},
    "both, plain sum": {"fusion": "plain"},
    "both, scale of the paper": {"fusion": "paper"},
}


def choose(banks: Banks, memory: RetrievalMemory, row: dict[str, Any], epochs: int) -> tuple[dict[str, Any], list[Any]]:
    """The settings of a row that are best on validation images, and all that were tried."""
    tried = []
    for scale in row.get("scales", (row.get("fusion", 8.0),)):
        for lr in RATES[row.get("branches", "both")]:
            settings = {key: value for key, value in row.items() if key != "scales"} | {"fusion": scale, "lr": lr}
            found = measure(train(banks, memory, epochs=epochs, **settings), banks["val"])["logits"]
            tried.append({"settings": settings, "val": found})
    best = max(tried, key=lambda one: one["val"]["all"])
    return best["settings"], tried


def neighbors_alone(banks: Banks, memory: RetrievalMemory, k: int) -> dict[str, Any]:
    """Votes of the k nearest items, as they are and corrected by the prior."""
    train_bank, test = banks["train"], banks["test"]
    counts = counts_of(dict(banks))
    metrics = {name: PerClassAccuracy(test.num_classes) for name in ("votes", "votes, prior corrected")}
    for features, labels in test.batches(1024):
        found = memory.search(features, k)
        votes = vote(train_bank.require_labels("this benchmark")[found.rows], found.scores, test.num_classes)
        metrics["votes"].update(votes, labels)
        metrics["votes, prior corrected"].update(votes - counts.log_prior(), labels)
    return {name: rounded(split_means(metric.compute(), counts.shots())) for name, metric in metrics.items()}


def ablations(
    banks: Banks, memory: RetrievalMemory, chosen: dict[str, Any], epochs: int, sentence_encoder: str | None
) -> dict[str, Any]:
    """One seed each: what an image finds, k, losses, re-weighting, tau, texts, and what is in the memory."""

    def test(memory: RetrievalMemory = memory, **more: Any) -> dict[str, Any]:
        return measure(train(banks, memory, epochs=epochs, **more), banks["test"])

    both, alone, base = (chosen[name] for name in ("both, linear base", "retrieval alone", "base, linear"))
    losses: dict[str, Callable[[], Any]] = {
        "cross-entropy": lambda: CrossEntropyLoss(label_smoothing=0.1),
        "BalCE (eq. 2)": lambda: CrossEntropyLoss(label_smoothing=0.1, weighting="inverse"),
        "LACE": lambda: LogitAdjustedLoss(label_smoothing=0.1),
    }
    smooth: dict[str, Any] = {"label_smoothing": 0.1}
    texts: dict[str, dict[str, Any]] = {
        "random words, 300": {"text_encoder": BagOfWords(300)},
        "random words in [0, 1), as the paper's": {"text_encoder": BagOfWords(300, standardized=False)},
        "random words, 50": {"text_encoder": BagOfWords(50)},
        "random words, mean of texts": {"join": JoinedTexts(combine="features")},
    }
    if sentence_encoder:
        frozen = HuggingFaceText(sentence_encoder, trainable=False)
        texts["MiniLM, frozen, mean of texts"] = {"text_encoder": frozen, "join": JoinedTexts(combine="features")}
    return {
        "losses, base": {name: test(**base, loss=make()) for name, make in losses.items()},
        "losses, both": {name: test(**both, loss=make()) for name, make in losses.items()},
        "re-weighting (table S1)": {
            name: test(**both, loss=LogitAdjustedLoss(weighting=name, **smooth))
            for name in ("none", "inverse_sqrt", "inverse_log")
        },
        "tau (figure S1)": {
            str(tau): test(**both, loss=LogitAdjustedLoss(tau=tau, **smooth)) for tau in (0.5, 1, 1.5, 2)
        },
        "what a training image does not find": {name: test(**both, exclude=name) for name in ("id", "first", "none")},
        "k (figure 3), retrieval alone": {str(k): test(**alone, k=k) for k in (1, 3, 10, 30, 50, 100)},
        "text encoder (figure 4), retrieval alone": {name: test(**alone, **more) for name, more in texts.items()},
        "memory (figure 5), retrieval alone": {
            name: {"items": len(part), **test(part, **alone)} for name, part in parts_of(banks["train"]).items()
        },
    }


def parts_of(bank: FeatureBank) -> dict[str, RetrievalMemory]:
    """Fewer items, fewer items per class, and fewer classes; all live at once, for a run knows them by identity."""
    labels = bank.require_labels("this benchmark")
    random = torch.rand(len(bank), generator=torch.Generator().manual_seed(0))
    place = torch.empty(len(bank), dtype=torch.int64)
    for c in range(bank.num_classes):
        own = (labels == c).nonzero().flatten()
        place[own] = torch.arange(len(own))
    parts = {f"{share:.0%} of the items": random < share for share in (0.1, 0.25, 0.5, 1.0)}
    parts |= {f"{n} items of each class at most": place < n for n in (2, 5, 20)}
    parts |= {f"{share:.0%} of the classes": labels % 4 < 4 * share for share in (0.25, 0.5, 0.75)}
    everything = torch.arange(len(bank))
    return {name: RetrievalMemory.build(bank).remove(everything[~chosen].tolist()) for name, chosen in parts.items()}


def indexes(banks: Banks) -> dict[str, Any]:
    """Table S2: accuracy of the nearest item, and the time of a query, for each index and metric."""
    found = {}
    for kind in ("exact", "hnsw", "ivf"):
        for metric in ("l2", "cosine"):
            start = time.perf_counter()
            memory = RetrievalMemory.build(banks["train"], index=FaissIndex(kind, metric=metric))  # type: ignore[arg-type]
            built = time.perf_counter() - start
            start = time.perf_counter()
            rows = neighbors_alone(banks, memory, 1)["votes"]
            seconds = time.perf_counter() - start
            found[f"{kind}, {metric}"] = {
                **rows,
                "built_s": round(built, 3),
                "query_ms": round(1e3 * seconds / len(banks["test"]), 4),
            }
    return found


def mean(values: list[Any]) -> Any:
    """Mean and standard deviation over seeds of the numbers at the same place."""
    if isinstance(values[0], dict):
        return {key: mean([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], bool) or not isinstance(values[0], (int, float)):
        return values[0]
    return {"mean": round(float(np.mean(values)), 2), "std": round(float(np.std(values)), 2)}


def main() -> None:
    """Choose, train, edit, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help=".npz with the images")
    parser.add_argument("--name", required=True, help="of the result file")
    parser.add_argument("--encoder", required=True, metavar="FILE", help="weights of EfficientNet-Lite0")
    parser.add_argument("--factor", type=float, default=100.0, help="imbalance factor; 0 takes all images")
    parser.add_argument("--thin", type=int, default=0, help="of classes with fewer images, take a third")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sentence_encoder", metavar="FOLDER", help="for one row of the ablations")
    parser.add_argument("--without_ablations", action="store_true", help="rows and edits alone, in a third of the time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    banks = tail_banks(args)
    memory, counts = RetrievalMemory.build(banks["train"]), counts_of(banks)
    chosen, tried = {}, {}
    for name, row in ROWS.items():
        chosen[name], tried[name] = choose(banks, memory, row, args.epochs)
        print(name, chosen[name], max(one["val"]["all"] for one in tried[name]), flush=True)
    runs = []
    for seed in args.seeds:
        rows, edits = {}, {}
        for name, settings in chosen.items():
            model = train(banks, memory, epochs=args.epochs, seed=seed, **settings)
            rows[name] = measure(model, banks["test"])
            if name in ("retrieval alone", "both, linear base", "both, MLP base"):
                edits[name] = edited(model, banks, counts)
            if name == "both, linear base" and seed == args.seeds[0]:
                curve = per_class(model, banks["test"])
        runs.append({"rows": rows, "edits": edits})
        print(seed, {name: row["logits"]["all"] for name, row in rows.items()}, flush=True)
    shots = {name: len(classes) for name, classes in counts.shots()}
    results = {
        "settings": {**{key: getattr(args, key) for key in ("factor", "thin", "epochs")}, "code": COMMIT},
        "classes": shots,
        "class_counts": counts.tolist(),
        "images": {split: len(bank) for split, bank in banks.items()},
        "chosen": chosen,
        "tried": tried,
        "neighbors alone, k=30": neighbors_alone(banks, memory, 30),
        "summary": mean(runs),
        "runs": runs,
        "per class, first seed": curve,
    }
    if not args.without_ablations:
        results["ablations, first seed"] = ablations(banks, memory, chosen, args.epochs, args.sentence_encoder)
        results["indexes (table S2)"] = indexes(banks)
    record(f"retrieval_augmented_{args.name}", results, seed=args.seeds)


if __name__ == "__main__":
    main()
