"""How long imports and looking commands take, each in fresh processes, interleaved with their baseline.

python benchmarks/imports.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from _record import record

ROUNDS = 9
COPY = (
    "import tempfile; from longtail_lightning.cli.main import main\n"
    "with tempfile.TemporaryDirectory() as folder: raise SystemExit(main(['cp', 'quickstart', folder + '/mine.yaml']))"
)
LTL = "from longtail_lightning.cli.main import main; raise SystemExit(main({}))"


def main() -> None:
    """Medians in milliseconds."""
    empty, torch = python("pass"), python("import torch")
    pairs = {
        "import longtail_lightning": (python("import longtail_lightning"), empty, 50.0),
        "import longtail_lightning.losses, over import torch": (
            python("import torch, longtail_lightning.losses"),
            torch,
            100.0,
        ),
        "ltl --help": (python(LTL.format(["--help"])), None, 400.0),
        "ltl list": (python(LTL.format(["list"])), None, 400.0),
        "ltl list losses": (python(LTL.format(["list", "losses"])), None, 400.0),
        "ltl cp": (python(COPY), None, 400.0),
    }
    results = {}
    for name, (measured, baseline, limit) in pairs.items():
        times, base = [], []
        for _ in range(ROUNDS):
            times.append(measured())
            base.append(baseline() if baseline else 0.0)
        added = statistics.median(t - b for t, b in zip(times, base))
        results[name] = {"ms": round(added, 1), "limit_ms": limit}
        print(name, results[name], flush=True)
    record("imports", results)


def python(code: str) -> Callable[[], float]:
    """A measurement of a fresh interpreter, in milliseconds."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
        return 1000 * (time.perf_counter() - start)

    return measure


if __name__ == "__main__":
    main()
