"""Forward and backward of each loss against cross-entropy on the same logits: 512 x 8142 (iNaturalist), fp32.

python benchmarks/losses.py

Runs alternate between the loss and its baseline, so that both see the same machine; times are those
of the processor, on one thread, so that other work on the machine counts little; the ratio is that of
the medians. Freed memory stays with the process: else the pages that one gives back and the other has
to fetch again decide, and cross-entropy differs from itself by a third. Peak memory is the most that
was allocated at once, in buffers of the size of the logits; the logits' gradient is one of them.
"""

from __future__ import annotations

import ctypes
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _record import record
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from longtail_lightning import losses

BATCH, CLASSES, SEED, PAIRS = 512, 8142, 0, 101
Loss = Callable[[Tensor, Tensor], Tensor]


def baselines() -> dict[str, Loss]:
    """What the losses are compared with."""
    return {
        "F.cross_entropy(z)": F.cross_entropy,
        "F.cross_entropy(30 * z)": lambda z, y: F.cross_entropy(30 * z, y),
        "F.cross_entropy(label_smoothing=0.1)": lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1),
    }


def candidates(counts: Tensor) -> list[tuple[str, Loss, str, float | None]]:
    """Name, loss, baseline, and the ratio that it must not exceed."""
    plain, scaled, smoothed = baselines()
    return [
        ("CrossEntropyLoss", losses.CrossEntropyLoss(counts), plain, None),
        ("CrossEntropyLoss, weighted", losses.CrossEntropyLoss(counts, weighting="inverse"), plain, 1.15),
        ("CrossEntropyLoss, smoothed", losses.CrossEntropyLoss(counts, label_smoothing=0.1), smoothed, 1.05),
        ("LogitAdjustedLoss", losses.LogitAdjustedLoss(counts), plain, 1.35),
        ("BalancedSoftmaxLoss", losses.BalancedSoftmaxLoss(counts), plain, 1.35),
        ("FocalLoss", losses.FocalLoss(counts), plain, 1.15),
        ("ClassBalancedLoss", losses.ClassBalancedLoss(counts), plain, 1.15),
        ("LDAMLoss", losses.LDAMLoss(counts), scaled, 1.05),
        ("LabelAwareSmoothingLoss", losses.LabelAwareSmoothingLoss(counts), smoothed, None),
        ("VectorScalingLoss", losses.VectorScalingLoss(counts), plain, None),
        ("LADELoss", losses.LADELoss(counts), plain, None),
        ("SeesawLoss", losses.SeesawLoss(counts), plain, None),
        ("EqualizationLoss", losses.EqualizationLoss(counts), plain, None),
        ("GaussianCloudedLoss", losses.GaussianCloudedLoss(counts), scaled, None),
    ]


def main() -> None:
    """Measure all, print as they come, and record."""
    torch.set_num_threads(1)
    keep_freed_memory()
    generator = torch.Generator().manual_seed(SEED)
    logits = torch.randn(BATCH, CLASSES, generator=generator).requires_grad_()
    target = torch.randint(CLASSES, (BATCH,), generator=generator)
    # Long-tailed like iNaturalist 2018: 1000 to 2 images.
    counts = (1000 * (2 / 1000) ** (torch.arange(CLASSES) / (CLASSES - 1))).long()
    compared = baselines()
    results = []
    for name, loss, against, limit in candidates(counts):
        result = compare(loss, compared[against], logits, target)
        results.append({"loss": name, "baseline": against, **result, "limit": limit})
        print(results[-1], flush=True)
    record("losses_cpu", {"batch": BATCH, "classes": CLASSES, "pairs": PAIRS, "losses": results}, seed=SEED)


def keep_freed_memory() -> None:
    """Tell glibc to hand no pages back; elsewhere, nothing."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: the largest that it takes, above one buffer of logits
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def compare(loss: Loss, baseline: Loss, logits: Tensor, target: Tensor) -> dict[str, Any]:
    """Time in interleaved pairs, then peak memory."""
    pairs = [(seconds(loss, logits, target), seconds(baseline, logits, target)) for _ in range(PAIRS + 3)][3:]
    ours, theirs = (statistics.median(column) for column in zip(*pairs))
    mine, base = peak(loss, logits, target), peak(baseline, logits, target)
    return {
        "ms": round(1000 * ours, 2),
        "baseline_ms": round(1000 * theirs, 2),
        "ratio": round(ours / theirs, 3),
        "peak_buffers": round(mine, 2),
        "extra_peak_buffers": round(mine - base, 2),
    }


def seconds(loss: Loss, logits: Tensor, target: Tensor) -> float:
    """Processor time of one forward and backward."""
    logits.grad = None
    start = time.process_time()
    loss(logits, target).backward()
    return time.process_time() - start


def peak(loss: Loss, logits: Tensor, target: Tensor) -> float:
    """Most memory allocated during forward and backward, in buffers of the logits' size."""
    logits.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss(logits, target).backward()
    held = most = 0
    # Allocations and frees in the order in which they happened.
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / (logits.numel() * logits.element_size())


if __name__ == "__main__":
    main()
