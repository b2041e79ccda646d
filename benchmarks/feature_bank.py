"""What the second stage costs beside one pass of the backbone, and a bank of the size of iNaturalist 2018.

python benchmarks/feature_bank.py
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _record import record

from longtail_lightning import (
    CRT,
    LWS,
    NCM,
    ClassCounts,
    FeatureBank,
    LinearHead,
    LongTailDataModule,
    TauNormalization,
    create_backbone,
    extract_features,
    long_tail_counts,
    select_tau,
)
from longtail_lightning.datasets.array_images import ArrayImages

REPEATS = 3
INATURALIST = {"images": 437_513, "classes": 8142, "features": 2048, "queries": 24_426}


class Noise(LongTailDataModule):
    """Images of the number and size of CIFAR-10-LT; what is on them does not change the time."""

    def build(self, split: str) -> ArrayImages | None:
        counts = long_tail_counts(10, 5000, 100) if split == "train" else ClassCounts([200] * 10)
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        generator = torch.Generator().manual_seed(len(labels))
        images = torch.randint(0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
        return ArrayImages(images, labels)


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def second_stage() -> dict[str, Any]:
    """One feature pass against all four methods, interleaved."""
    data, backbone = Noise(batch_size=128), create_backbone("cifar_resnet32")
    banks: dict[str, FeatureBank] = {}

    def feature_pass() -> None:
        for split in ("train", "val"):
            banks[split] = extract_features(backbone, data, split=split, progress=False)

    feature_pass()
    head = LinearHead(backbone.num_features, 10)
    methods = {"cRT, 10 epochs": CRT(), "LWS, 5 epochs": LWS(), "tau, 21 values": TauNormalization(), "NCM": NCM()}
    times: dict[str, list[float]] = {"feature pass": [], **{name: [] for name in methods}}
    for _ in range(REPEATS):
        times["feature pass"].append(seconds(feature_pass))
        for name, method in methods.items():
            times[name].append(seconds(lambda m=method: m(head, banks["train"], banks["val"])))  # type: ignore[misc]
    medians = {name: round(statistics.median(values), 4) for name, values in times.items()}
    heads_only = sum(medians[name] for name in methods)
    print(medians)
    return {
        "seconds": medians,
        "pass_and_methods_over_pass": round((medians["feature pass"] + heads_only) / medians["feature pass"], 3),
    }


def inaturalist() -> dict[str, Any]:
    """NCM and the choice of tau on a mapped bank of 437,513 x 2048 features, fp16."""
    images, classes, width, queries = INATURALIST.values()
    random = np.random.default_rng(0)
    means = random.standard_normal((classes, width), dtype=np.float32)
    counts = _counts(images, classes)
    with tempfile.TemporaryDirectory() as folder:
        train = _bank(Path(folder) / "train", means, np.repeat(np.arange(classes), counts), random)
        val = _bank(Path(folder) / "val", means, np.arange(queries) % classes, random)
        head = LinearHead(width, classes)
        with torch.no_grad():  # norms that fall with the number of images, as trained ones do
            head.weight.copy_(torch.from_numpy(means) * torch.from_numpy(counts).float().pow(0.3)[:, None])
        result = {
            "ncm_seconds": round(seconds(lambda: NCM()(head, train)), 1),
            "tau_seconds": round(seconds(lambda: select_tau(head, val, class_counts=train.class_counts)), 1),
            "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            **INATURALIST,
        }
    print(result)
    return result


def _counts(images: int, classes: int) -> np.ndarray:
    shares = np.array(long_tail_counts(classes, 1000, 500).tolist(), dtype=np.float64)
    counts = np.maximum(2, (shares * images / shares.sum()).astype(np.int64))
    counts[0] += images - counts.sum()
    return counts


def _bank(path: Path, means: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> FeatureBank:
    features = np.empty((len(labels), means.shape[1]), dtype=np.float16)
    for start in range(0, len(labels), 8192):
        part = labels[start : start + 8192]
        features[start : start + 8192] = means[part] + random.standard_normal((len(part), means.shape[1]), np.float32)
    return FeatureBank.load(FeatureBank.from_arrays(features, labels).save(path))


if __name__ == "__main__":
    record("feature_bank_cpu", {"second_stage": second_stage(), "inaturalist_2018": inaturalist()}, seed=0)
