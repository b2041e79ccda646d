"""How fast and how complete searches are, and how long a memory takes to open and to edit.

python benchmarks/retrieval_speed.py

Vectors are random, in clusters as the features of a network are. Exact search by torch, one matrix product and topk for
each batch of 200 queries, is the baseline; both ways run in turns, on one thread, and the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from _record import record

from longtail_lightning import FaissIndex, FeatureBank, RetrievalMemory

K, BATCH = 30, 200


def clustered(number: int, width: int, seed: int, clusters: int = 1000) -> torch.Tensor:
    """Directions around some centers."""
    generator = torch.Generator().manual_seed(0)
    centers = F.normalize(torch.randn(clusters, width, generator=generator), dim=1)
    generator.manual_seed(seed)
    chosen = torch.randint(0, clusters, (number,), generator=generator)
    noise = torch.randn(number, width, generator=generator) / width**0.5
    return F.normalize(centers[chosen] + 1.2 * noise, dim=1)


def seconds(act: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it gives."""
    start = time.perf_counter()
    found = act()
    return time.perf_counter() - start, found


def search(index: FaissIndex, items: torch.Tensor, queries: torch.Tensor, repeats: int) -> dict[str, float]:
    """Recall and speed against exact search, both on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    exact = torch.cat([(part @ items.T).topk(K).indices for part in queries.split(BATCH)])
    found = index.search(queries, K).ids
    recall = np.mean([len({*a} & {*b}) / K for a, b in zip(found.tolist(), exact.tolist())])
    times: dict[str, list[float]] = {"torch": [], "index": []}
    for number in range(repeats):
        part = queries.split(BATCH)[number % (len(queries) // BATCH)]
        times["torch"].append(seconds(lambda part=part: (part @ items.T).topk(K))[0])
        times["index"].append(seconds(lambda part=part: index.search(part, K))[0])
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "recall@30": round(float(recall), 4),
        "torch, seconds for 200": round(medians["torch"], 4),
        "index, seconds for 200": round(medians["index"], 4),
        "times as fast": round(medians["torch"] / medians["index"], 2),
    }


def indexes(number: int, width: int, kinds: dict[str, dict[str, Any]], repeats: int, folder: Path) -> dict[str, Any]:
    """Build, search and load each kind of index."""
    items, queries = clustered(number, width, 1), clustered(1000, width, 2)
    results: dict[str, Any] = {}
    for name, options in kinds.items():
        index = FaissIndex(**options)
        built, _ = seconds(lambda index=index: index.add(items, np.arange(number)))
        found = {"build, seconds": round(built, 1), **search(index, items, queries, repeats)}
        told = index.save(folder / name)
        loaded, _ = seconds(lambda index=index, name=name: index.new().load(folder / name))
        found |= {"megabytes": round(told["bytes"] / 1e6, 1), "mapped load, seconds": round(loaded, 3)}
        results[name] = found
        print(number, width, name, found, flush=True)
        if index.kind == "ivf":
            index.probes = 4
            results[f"{name}, 4 probes"] = search(index, items, queries, repeats)
            print(number, width, "4 probes", results[f"{name}, 4 probes"], flush=True)
        (folder / name).unlink()
    return results


def memories(folder: Path) -> dict[str, Any]:
    """Open a memory of a million items with texts; add 10,000 items to 500,000."""
    texts = [f"text {i % 5000} of an item" for i in range(1_000_000)]
    ids = [f"photos/{i:07}.jpg" for i in range(1_000_000)]
    bank = FeatureBank.from_arrays(clustered(1_000_000, 64, 3).half(), ids=ids, texts=texts)
    RetrievalMemory.build(bank, path=folder / "million", index=FaissIndex("ivf", cells=1024))
    opened, memory = seconds(lambda: RetrievalMemory.load(folder / "million"))
    first, _ = seconds(lambda: memory.search(clustered(200, 64, 4), K).texts)
    del memory, bank
    half = FeatureBank.from_arrays(clustered(500_000, 64, 5), ids=ids[:500_000], texts=texts[:500_000])
    memory = RetrievalMemory.build(half, path=folder / "half", index=FaissIndex("ivf", cells=1024))
    more = FeatureBank.from_arrays(clustered(10_000, 64, 6), texts=texts[:10_000])
    added, _ = seconds(lambda: memory.add_source("more", more))
    saved, _ = seconds(memory.save)
    removed, _ = seconds(lambda: memory.remove(ids[:100]).save())
    return {
        "open a million items with texts, seconds": round(opened, 3),
        "first search of 200 in it, seconds": round(first, 3),
        "add a source of 10,000 to 500,000, seconds": round(added, 3),
        "save it, seconds": round(saved, 3),
        "remove 100 items and save, seconds": round(removed, 3),
    }


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--only", nargs="+", choices=["62500", "500000", "memory"], default=["62500", "500000", "memory"]
    )
    args = parser.parse_args()
    kinds: dict[str, dict[str, Any]] = {"hnsw": {"kind": "hnsw"}, "ivf": {"kind": "ivf"}}
    results: dict[str, Any] = {"k": K}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "62500" in args.only:
            results["62,500 x 768"] = indexes(62_500, 768, kinds, args.repeats, folder)
        if "500000" in args.only:
            results["500,000 x 256"] = indexes(500_000, 256, kinds, args.repeats, folder)
        if "memory" in args.only:
            results["memory"] = memories(folder)
            print(results["memory"], flush=True)
    record("retrieval_speed", results, seed=0)


if __name__ == "__main__":
    main()
