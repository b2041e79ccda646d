"""Write a result with everything needed to repeat it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent / "results"
LIBRARIES = ("torch", "torchvision", "lightning", "torchmetrics", "timm", "numpy")


def record(name: str, results: dict[str, Any], *, seed: int | list[int] | None = None) -> Path:
    """Write `benchmarks/results/NAME.json`: results, command, commit, seed, device, library versions."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    text = {
        "command": " ".join(["python", *(_short(word) for word in sys.argv)]),
        "commit": COMMIT,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "seed": seed,
        "device": _device(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "libraries": {library: version(library) for library in LIBRARIES},
        "results": results,
    }
    path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return path


def _short(word: str) -> str:
    """A benchmark as it is called from the root of the repository; of other files, the name."""
    path = Path(word)
    if path.suffix == ".py":
        return f"benchmarks/{path.name}"
    return path.name if path.is_absolute() else word


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], capture_output=True, text=True, cwd=FOLDER).stdout.strip()


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpu = Path("/proc/cpuinfo")
    names = [line for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    return f"CPU: {names[0].partition(':')[2].strip()}" if names else f"CPU: {platform.processor()}"


# Asked when the benchmark starts, with the code that it loads: a long run may outlive a commit.
COMMIT = _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain", "src") else "")
