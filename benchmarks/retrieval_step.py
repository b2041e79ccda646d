"""What a memory adds to a training step (table 5 of Long et al. 2022): lookup, text branch, and all together.

python benchmarks/retrieval_step.py [--steps 12] [--items 62500]

Base and encoder are ViT-tiny at 224 pixels; texts are 365 names of one to three words, bags of words. All ways take
steps in turn, in one process; medians are reported. On a GPU, base and encoder are ViT-B/16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from _record import record

from longtail_lightning import (
    BagOfWords,
    ClassCounts,
    FaissIndex,
    FeatureBank,
    LogitAdjustedLoss,
    RetrievalAugmented,
    RetrievalMemory,
    TimmBackbone,
)

CLASSES = 365


def texts_of(number: int, seed: int = 0) -> list[str]:
    """Names of one to three words, one per class."""
    random = np.random.default_rng(seed)
    names = [" ".join(f"word{w}" for w in random.integers(0, 400, random.integers(1, 4))) for _ in range(CLASSES)]
    return [names[c] for c in random.integers(0, CLASSES, number)]


def memory_of(items: int, width: int, kind: str) -> RetrievalMemory:
    """Clustered features, as an encoder gives them."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(CLASSES, width, generator=random)
    features = centers[torch.randint(CLASSES, (items,), generator=random)]
    features = features + 0.7 * torch.randn(items, width, generator=random)
    return RetrievalMemory.build(FeatureBank.from_arrays(features, texts=texts_of(items)), index=FaissIndex(kind))  # type: ignore[arg-type]


def main() -> None:
    """Time the steps, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--items", type=int, default=62_500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = "vit_base_patch16_224" if device.type == "cuda" else "vit_tiny_patch16_224"
    counts = ClassCounts.from_labels(list(range(CLASSES)) * 100)
    encoder = TimmBackbone(name).eval()
    memory = memory_of(args.items, encoder.num_features, "hnsw")
    images = torch.randn(args.batch, 3, 224, 224, device=device)
    target = torch.randint(CLASSES, (args.batch,), device=device)
    loss = LogitAdjustedLoss(counts)
    ways: dict[str, Any] = {}
    for way, options in (
        ("base alone", {"branches": "base"}),
        ("both, neighbors found before (cached)", {}),
        ("both, encoder and lookup in the step (exact)", {}),
    ):
        model = RetrievalAugmented(
            counts,
            memory=memory,
            encoder=encoder,
            backbone=TimmBackbone(name),
            text_encoder=BagOfWords(),
            **options,  # type: ignore[arg-type]
        ).to(device)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        ways[way] = (model.train(), optimizer)
    numbers = ways["both, neighbors found before (cached)"][0].find(images)

    def step(way: str) -> None:
        model, optimizer = ways[way]
        if "cached" in way:
            base = model.head(model.backbone(images))
            logits = model.fusion(base, model.retrieval_logits(numbers))
        else:
            logits = model.branch_logits(images)["logits"]
        loss(logits, target).backward()
        optimizer.step()
        optimizer.zero_grad()

    queries = torch.randn(args.batch, encoder.num_features)
    timed: dict[str, Any] = {way: lambda way=way: step(way) for way in ways}
    timed["lookup alone, HNSW"] = lambda: memory.search(queries, 30)
    seconds: dict[str, list[float]] = {way: [] for way in timed}
    for turn in range(args.steps + 2):
        for way, run in timed.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # the first ones warm up
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    base = medians["base alone"]
    rows = {
        way: {"ms": round(1e3 * value, 2), "of the base step": round(value / base, 4)} for way, value in medians.items()
    }
    for way, row in rows.items():
        print(f"{way:<48} {row['ms']:9.2f} ms  {row['of the base step']:.4f}")
    settings = {"network": name, "batch": args.batch, "items": args.items, "k": 30, "steps": args.steps}
    suffix = "gpu" if device.type == "cuda" else "cpu"
    record(f"retrieval_step_{suffix}", {"settings": settings, "rows": rows}, seed=0)


if __name__ == "__main__":
    main()
