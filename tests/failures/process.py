"""`ltl` and Python as processes of their own, which limits, signals and disks of their own need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import longtail_lightning

SOURCE = str(Path(longtail_lightning.__file__).parents[1])
LTL = [sys.executable, "-m", "longtail_lightning.cli.main"]
LONGEST = 60  # seconds in which every failure must be told


def start(command, **options):
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **{"env": environment, "text": True, **pipes, **options})


def run(command, *, timeout=LONGEST, **options):
    """(status, stdout, stderr) of a process that ends in time."""
    process = start(command, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"{' '.join(map(str, command))[:200]} hung:\n{process.communicate()[1][-2000:]}")
    return process.returncode, out, err


def sentence(status, err):
    """The one sentence that a command ended with."""
    assert status in (1, 2), err
    assert "Traceback" not in err
    # Processes that die may write into the same line.
    (told,) = [line for line in err.splitlines() if "ltl: error: " in line]
    return told.partition("ltl: error: ")[2]


def with_own_mounts(*commands):
    """Begin of a command that runs in a mount name space of its own, after these commands of a shell."""
    own = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    script = " && ".join([*commands, 'exec "$@"'])
    try:
        if subprocess.run([*own, "sh", "-c", script, "sh", "true"], capture_output=True).returncode == 0:
            return [*own, "sh", "-c", script, "sh"]
    except FileNotFoundError:
        pass
    pytest.skip("this machine lets nobody mount a file system")
