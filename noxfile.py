"""All checks, each in an environment of its own: `nox -s tests`, `nox -s lint types`, `nox -l`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "doctest", "examples"]


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite on two processes, without the slow tests; `nox -s tests -- -k name` selects."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-n", "2", "--dist", "loadgroup", "-m", "not slow", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take more than a minute, one after the other."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Thousands of drawn cases for losses, counts, samplers, metrics, files, command lines and checkpoints."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-n", "2", "tests/fuzz", *session.posargs, env={"FUZZ_CASES": "500"})


@nox.session
def plant_bugs(session: nox.Session) -> None:
    """Plant bugs one at a time, and fail when the tests do not notice one."""
    session.install("-e", ".[dev]")
    session.run("python", "tools/plant_bugs.py", *session.posargs)


@nox.session
def doctest(session: nox.Session) -> None:
    """The examples in docstrings alone."""
    session.install("-e", ".[dev]")
    session.run("pytest", "src", *session.posargs)


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """The test suite on the oldest releases that pyproject.toml admits."""
    session.install("--resolution", "lowest-direct", "-e", ".[dev]")
    # Old releases use what their own dependencies have deprecated since.
    quiet = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")
    session.run("pytest", "-n", "2", "--dist", "loadgroup", "-m", "not slow", *quiet, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and layout of the code."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types in src."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example."""
    session.install("-e", ".")
    for path in sorted(Path("examples").glob("*.py")):
        session.run("python", str(path))
    for path in sorted(Path("examples").glob("*.sh")):
        session.run("bash", str(path), external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; broken links are errors."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel, install it in a clean environment, and run the quickstart from it."""
    shutil.rmtree("dist", ignore_errors=True)
    session.install("build[uv]")
    session.run("python", "-m", "build", "--installer", "uv")
    (wheel,) = Path("dist").glob("*.whl")
    clean = Path(session.create_tmp()).resolve() / "clean"
    session.run("uv", "venv", "--clear", "--python", sys.executable, str(clean), external=True)
    session.run("uv", "pip", "install", "--python", str(clean / "bin" / "python"), str(wheel), external=True)
    with session.chdir(clean):
        session.run(str(clean / "bin" / "ltl"), "fit", "--config", "quickstart", *session.posargs, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure on this machine and write benchmarks/results/."""
    session.install("-e", ".[dev]")
    for name in session.posargs or ["imports", "throughput", "losses", "samplers", "decode", "shards"]:
        session.run("python", f"benchmarks/{name}.py")
