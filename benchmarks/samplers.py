"""Time and memory of the samplers on the scale of iNaturalist 2018, and at 50 million images.

    python benchmarks/samplers.py [lt_counts.json]

draws whole epochs of 437,513 indices over 8,142 classes, in turns with torch's RandomSampler on the same
data, and writes `results/samplers_cpu.json`. The counts are those of iNaturalist 2018 when the file of
class counts is given, exponential ones of the same total otherwise.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _record import record
from torch.utils.data import RandomSampler

from longtail_lightning import samplers

SEED, ROUNDS = 0, 15
NUM_IMAGES, NUM_CLASSES = 437_513, 8_142
MANY_IMAGES = 50_000_000
TIMED = ["InstanceBalancedSampler", "PowerSampler", "ClassAwareSampler", "ClassUniformBatchSampler"]


def main() -> None:
    """Measure and write."""
    if sys.argv[1:2] == ["--memory"]:
        print(json.dumps(measure_memory(sys.argv[2])))
        return
    torch.set_num_threads(1)
    counts, source = class_counts(sys.argv[1:])
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(SEED))]
    results = {"counts": source, "num_images": len(labels), "num_classes": len(counts), "epoch": measure_time(labels)}
    results["memory"] = {
        "num_images": MANY_IMAGES,
        "what": "bytes per label above the labels themselves (int16), the largest resident size of a fresh process",
        **{name: in_fresh_process(name) for name in TIMED},
    }
    record("samplers_cpu", results, seed=SEED)


def class_counts(arguments: list[str]) -> tuple[torch.Tensor, str]:
    """The real counts from a file, or exponential ones of the same total."""
    if arguments:
        return torch.tensor(json.loads(Path(arguments[0]).read_text())["iNaturalist18"]["counts"]), "iNaturalist 2018"
    shape = torch.logspace(0, -2.7, NUM_CLASSES, dtype=torch.float64)
    counts = (shape / shape.sum() * NUM_IMAGES).long().clamp(min=1)
    counts[0] += NUM_IMAGES - counts.sum()
    return counts, "exponential, imbalance factor 500"


def measure_time(labels: torch.Tensor) -> dict[str, Any]:
    """Milliseconds to draw one epoch, in turns: A B C A B C ..."""
    drawn: dict[str, Any] = {"RandomSampler": RandomSampler(range(len(labels)))}
    drawn |= {name: getattr(samplers, name)(labels, seed=SEED) for name in TIMED}
    times: dict[str, list[float]] = {name: [] for name in drawn}
    for epoch in range(ROUNDS + 1):
        for name, sampler in drawn.items():
            getattr(sampler, "set_epoch", int)(epoch)
            start = time.perf_counter()
            for _ in sampler:
                pass
            if epoch:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - start))
    base = times["RandomSampler"]
    return {
        name: {
            "ms_median": round(median(values), 1),
            "ms_min": round(min(values), 1),
            "of_random_sampler": round(median(own / other for own, other in zip(values, base)), 3),
        }
        for name, values in times.items()
    }


def in_fresh_process(name: str) -> Any:
    """`measure_memory` where nothing else has raised the peak."""
    out = subprocess.run([sys.executable, __file__, "--memory", name], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def measure_memory(name: str) -> dict[str, float]:
    """Peak memory of construction and of two million draws, in bytes per label."""
    torch.set_num_threads(1)
    labels = torch.empty(MANY_IMAGES, dtype=torch.int16)
    # Squared uniform numbers pile up at 0: a long tail.
    for chunk in labels.split(1 << 20):
        chunk.copy_(torch.rand(len(chunk)).pow_(2).mul_(NUM_CLASSES))
    getattr(samplers, name)(labels[:1000])  # what the libraries load on first use is not counted
    before = peak()
    start = time.perf_counter()
    sampler = getattr(samplers, name)(labels)
    built, seconds = peak(), time.perf_counter() - start
    for _, _ in zip(range(2_000_000), sampler):
        pass
    return {
        "construction": round((built - before) / MANY_IMAGES, 2),
        "construction_and_iteration": round((peak() - before) / MANY_IMAGES, 2),
        "construction_seconds": round(seconds, 1),
    }


def peak() -> int:
    """Largest resident size of this process so far, in bytes (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
