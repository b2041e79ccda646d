"""What it takes to open a bank of a million items with ids and texts, each time in a fresh process.

python benchmarks/open_bank.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPEATS = 7
ITEMS, WIDTH, CLASSES = 1_000_000, 512, 1000
WORDS = (
    "a",
    "photo",
    "of",
    "the",
    "small",
    "old",
    "wild",
    "bird",
    "tree",
    "house",
    "boat",
    "in",
    "front",
    "snow",
    "night",
)


def make(folder: str) -> None:
    """A bank as an extraction leaves it: names of files as ids, captions as texts."""
    import numpy as np
    import torch

    from longtail_lightning import FeatureBank

    random = np.random.default_rng(0)
    features = np.tile(random.standard_normal((ITEMS // 100, WIDTH), np.float32).astype(np.float16), (100, 1))
    labels = random.integers(0, CLASSES, ITEMS)
    ids = [f"train/n{label:08d}/n{label:08d}_{item}.JPEG" for item, label in enumerate(labels.tolist())]
    texts = [" ".join(WORDS[word] for word in row) for row in random.integers(0, len(WORDS), (ITEMS, 12))]
    start = time.perf_counter()
    FeatureBank.from_arrays(torch.from_numpy(features), labels, ids, texts, num_classes=CLASSES).save(folder)
    print(json.dumps({"make_and_save_seconds": round(time.perf_counter() - start, 2)}))


def open_it(folder: str, verify: bool) -> None:
    """Open the bank and look at one item; memory as the kernel counts it for this process."""
    from longtail_lightning import FeatureBank

    before, start = _resident(), time.perf_counter()
    bank = FeatureBank.load(folder, verify=verify)
    opened, after = time.perf_counter(), _resident()
    item = bank.features[ITEMS // 2].float().sum().item(), bank.ids[ITEMS // 2], bank.texts[ITEMS // 2]  # type: ignore[index]
    looked = time.perf_counter()
    assert len(bank) == ITEMS, item
    print(
        json.dumps(
            {
                "seconds": opened - start,
                "first_item_milliseconds": (looked - opened) * 1000,
                **{f"{name}_growth_mib": (after[name] - before[name]) / 1024 for name in before},
            }
        )
    )


def _resident() -> dict[str, int]:
    """KiB in memory: of this process alone (RssAnon), and pages of files that it has touched (RssFile)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) for name in ("RssAnon", "RssFile")}


def _run(*words: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *words]
    result: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


def _forget(folder: str) -> None:
    """Let the system drop what it keeps of these files in memory, so that they are read from the disk."""
    for file in Path(folder).iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def measure() -> dict[str, Any]:
    """Medians over fresh processes, with the files in the page cache and without."""
    results: dict[str, Any] = {"items": ITEMS, "features": WIDTH, "dtype": "float16", "repeats": REPEATS}
    with tempfile.TemporaryDirectory() as folder:
        results |= _run("make", folder)
        results["bytes"] = {file.name: file.stat().st_size for file in sorted(Path(folder).iterdir())}
        for name in ("warm", "cold"):
            runs = []
            for _ in range(REPEATS):
                if name == "cold":
                    _forget(folder)
                runs.append(_run("open", folder))
            results[name] = {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}
        results["verify_seconds"] = round(_run("verify", folder)["seconds"], 2)
    results["counted"] = (
        "growth of RssAnon and RssFile in /proc/self/status while FeatureBank.load runs, torch and the library "
        "imported before; warm: files in the page cache, cold: dropped from it before each run"
    )
    print(json.dumps(results, indent=1))
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2])
    elif sys.argv[1:2] in (["open"], ["verify"]):
        open_it(sys.argv[2], verify=sys.argv[1] == "verify")
    else:
        from _record import record

        record("open_bank_cpu", measure(), seed=0)
