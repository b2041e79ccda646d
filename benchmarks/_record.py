"""Write the results of a benchmark with what is needed to repeat it."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def record(name: str, results: dict[str, Any], *, seed: int = 0, device: str = "cpu") -> Path:
    """Write `results/<name>.json`: commit, seed, device, library versions, results."""
    context = {
        "commit": _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain", "--", "src") else ""),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "lightning")},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**context, "results": results}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1), f"\nwritten to {path}")
    return path


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
