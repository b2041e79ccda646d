"""How long imports and looking commands take, each in fresh processes, in turns.

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
    measured = {
        "import longtail_lightning": (inside("pass", "import longtail_lightning"), 50.0),
        "import longtail_lightning.losses, after import torch": (
            inside("import torch", "import longtail_lightning.losses"),
            100.0,
        ),
        "ltl --help": (whole(LTL.format(["--help"])), 400.0),
        "ltl list": (whole(LTL.format(["list"])), 400.0),
        "ltl list losses": (whole(LTL.format(["list", "losses"])), 400.0),
        "ltl cp": (whole(COPY), 400.0),
    }
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, (measure, _) in measured.items():
            times[name].append(measure())
    results = {
        name: {"ms": round(statistics.median(times[name]), 1), "limit_ms": limit}
        for name, (_, limit) in measured.items()
    }
    print(results)
    record("imports", results)


def inside(before: str, code: str) -> Callable[[], float]:
    """Milliseconds that `code` takes in a fresh interpreter which has run `before`."""
    script = f"{before}\nimport time\nstart = time.perf_counter()\n{code}\nprint(1000 * (time.perf_counter() - start))"

    def measure() -> float:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    return measure


def whole(code: str) -> Callable[[], float]:
    """Milliseconds of a fresh interpreter from start to end."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
        return 1000 * (time.perf_counter() - start)

    return measure


if __name__ == "__main__":
    main()
