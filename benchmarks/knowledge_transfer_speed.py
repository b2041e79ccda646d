"""Time and memory of knowledge transfer at the size of iNaturalist 2018, and of 100,000 classes.

python benchmarks/knowledge_transfer_speed.py lt_counts.json

lt_counts.json holds `{"iNaturalist 2018": {"counts": [...]}}`, training images of each class. Features are random: only
their number and width matter here. The naive way is one similarity of all classes with all donors, then a softmax and a
matrix product for each k. Both ways run in turns, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _record import record

from longtail_lightning import EnsembleHead, KnowledgeTransferHead, LinearHead
from longtail_lightning.heads._transfer import transfer
from longtail_lightning.heads.knowledge_transfer import transfer_together

KS, TAU = (0, 20, 100), 10.0


def ensemble(counts: list[int], width: int, *, parts: tuple[str, ...]) -> EnsembleHead:
    """Three heads with one knowledge, which is random."""
    heads = [KnowledgeTransferHead(width, len(counts), k=k, tau=TAU, parts=parts) for k in KS]  # type: ignore[arg-type]
    made = EnsembleHead(heads, shared=True)
    generator = torch.Generator().manual_seed(0)
    known = heads[0].classes
    known.prototypes.copy_(F.normalize(torch.randn(len(counts), width, generator=generator), dim=1) * 0.8)
    known.directions.copy_(F.normalize(torch.randn(len(counts), width, generator=generator), dim=1))
    known.counts.copy_(torch.tensor(counts))
    known._see()
    return made


def naive(made: EnsembleHead) -> list[torch.Tensor]:
    """One similarity, a transfer for each k."""
    known: Any = made.heads[0].classes
    p, w = F.normalize(known.prototypes, dim=1), known.directions
    similarity = p @ w.T
    outputs = []
    for k in KS:
        donors = known.counts > k
        given = F.normalize((TAU * similarity[:, donors]).softmax(1) @ w[donors], dim=1)
        outputs.append(F.normalize(given + p + w, dim=1))
    return outputs


def ours(made: EnsembleHead) -> list[torch.Tensor]:
    """The three heads from prototypes and weights."""
    members: list[Any] = list(made.heads)
    transfer_together(members)
    for head in members:
        head.follow()
        head._compose_all()
    return [head.weight for head in members]


def seconds(act: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def in_turns(repeats: int, **ways: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of several ways, run one after the other, again and again."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, act in ways.items():
            times[name].append(seconds(act))
    return {name: round(statistics.median(values), 5) for name, values in times.items()}


def peak_memory(act: Callable[[], Any]) -> int:
    """Bytes of memory that a call takes for itself, beyond what was there before."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    act()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def heads(made: EnsembleHead, repeats: int) -> dict[str, float]:
    """The three heads from prototypes and weights, both ways."""
    difference = max(float((a - b).abs().max()) for a, b in zip(ours(made), naive(made)))
    found = in_turns(repeats, ours=lambda: ours(made), naive=lambda: naive(made))
    return {**found, "ours over naive": round(found["ours"] / found["naive"], 3), "largest difference": difference}


def prediction(made: EnsembleHead) -> dict[str, float]:
    """64 features through the ensemble, and through one linear head."""
    linear, features = LinearHead(made.num_features, made.num_classes), torch.randn(64, made.num_features)
    made(features)
    found = in_turns(21, ensemble=lambda: made(features), linear=lambda: linear(features))
    return {**found, "per head over linear": round(found["ensemble"] / found["linear"] / len(KS), 3)}


def addition(made: EnsembleHead) -> dict[str, float]:
    """A class more from five features."""
    new, features = torch.randn(5, made.num_features), torch.randn(64, made.num_features)
    made(features)
    times = [seconds(lambda: made.add_classes([new])) for _ in range(9)]
    return {
        "first": round(times[0], 4),
        "median": round(statistics.median(times), 4),
        "first answer after it": round(seconds(lambda: made(features)), 4),
    }


def memory() -> dict[str, float]:
    """100,000 classes x 512 in blocks; a part of the classes ask, for blocks of them are alike."""
    size, width, queries = 100_000, 512, 4096
    keys = F.normalize(torch.randn(size, width), dim=1)
    donors = [torch.arange(size // 2), torch.arange(size // 2, size)]
    outputs: list[torch.Tensor] = []
    used = peak_memory(lambda: outputs.extend(transfer(keys[:queries], keys, keys, donors, TAU)))
    used -= sum(output.nbytes for output in outputs)
    return {
        "queries": queries,
        "peak bytes beyond inputs and outputs": used,
        "over the weight matrix": round(used / keys.nbytes, 3),
    }


@torch.no_grad()
def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="lt_counts.json")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="The new classes have no learned weight")
    found = json.loads(Path(args.file).read_text())
    counts = next(value for name, value in found.items() if "naturalist" in name.lower())["counts"]
    made = ensemble(counts, 2048, parts=("transfer", "prototype", "classifier"))
    results: dict[str, Any] = {"classes": len(counts), "features": 2048, "k": KS}
    continual = ("transfer", "prototype")
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "three heads": lambda: heads(made, args.repeats),
        "prediction of 64": lambda: prediction(made),
        "adding one class, all classes learned before": lambda: addition(made),
        "adding one class, continual form": lambda: addition(ensemble(counts, 2048, parts=continual).refit()),
        "100,000 classes x 512, in blocks": memory,
    }
    for name, measure in measures.items():
        results[name] = measure()
        print(name, results[name], flush=True)
    record("knowledge_transfer_speed", results, seed=0)


if __name__ == "__main__":
    main()
