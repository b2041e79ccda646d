"""Plant bugs in a copy of the library, one at a time, and print those that no test notices.

`python tools/plant_bugs.py` plants all of them, `--room losses` those of a room, `--list` names them. Each bug is a
text of a source file and what stands in its place; the tests that should notice it are run, and stop at the first
failure. The status is the number of bugs that survive. Nothing is written into the repository. First the tests are run
without a bug: tests that fail in any case would notice all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from planted_bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 600  # seconds, after which a bug that makes a test hang counts as noticed
ENDED = ("killed", "SURVIVES", "hangs")


def plant(bug: Bug, copy: Path) -> str:
    """What became of a bug."""
    with planted(bug, copy):
        try:
            status = run(bug.tests, copy)
        except subprocess.TimeoutExpired:
            return "hangs"
    if status not in (0, 1, 2):
        raise SystemExit(f"{bug.file}: the tests {' '.join(bug.tests)} cannot be run (status {status})")
    return "killed" if status else "SURVIVES"


def run(tests: Iterable[str], copy: Path) -> int:
    """Status of pytest, which stops at the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=LONGEST).returncode


def check(tests: str) -> None:
    """Stop when tests fail without a bug."""
    with copied() as copy:
        if status := run([tests], copy):
            raise SystemExit(f"{tests} fails without a bug (pytest's status {status}): it would notice all bugs")


@contextmanager
def planted(bug: Bug, copy: Path) -> Iterator[None]:
    """The copy with a bug in it."""
    path = copy / "src" / "longtail_lightning" / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.old) != 1:
        raise SystemExit(f"{bug.file} has {text.count(bug.old)} places of {bug.old!r}, expected one")
    path.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the library and its tests."""
    with TemporaryDirectory(prefix="bugs-") as folder:
        copy = Path(folder)
        for part in ("src", "tests", "pyproject.toml", "README.md", "CONTENTS.md"):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / part)
        yield copy


def work(bugs: list[Bug]) -> list[tuple[Bug, str]]:
    """Plant some bugs, one after the other, in a copy of their own."""
    found = []
    with copied() as copy:
        for bug in bugs:
            found.append((bug, plant(bug, copy)))
            print(f"{found[-1][1]:8}  {bug.file}: {bug.breaks}", flush=True)
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--room", help="only bugs of this room")
    parser.add_argument("--list", action="store_true", help="name them, plant none")
    parser.add_argument("--processes", type=int, default=2, help="how many copies to work on (default: 2)")
    asked = parser.parse_args()
    bugs = [bug for bug in BUGS if asked.room in (None, bug.file.partition("/")[0])]
    if asked.list:
        print("\n".join(f"{bug.file}: {bug.breaks}" for bug in bugs))
        return 0
    parts = [bugs[start :: asked.processes] for start in range(asked.processes)]
    with ThreadPoolExecutor(asked.processes) as pool:
        list(pool.map(check, sorted({tests for bug in bugs for tests in bug.tests})))
        found = [each for part in pool.map(work, parts) for each in part]
    counts = {ended: sum(each == ended for _, each in found) for ended in ENDED}
    print(f"\n{len(found)} bugs: " + ", ".join(f"{count} {ended}" for ended, count in counts.items()))
    return counts["SURVIVES"]


if __name__ == "__main__":
    sys.exit(main())
