"""Each sentence, from an error that the system, numpy or torch really raises."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail_lightning._system_errors import sentence_for_system_error


def raised(provoke):
    try:
        provoke()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


MUCH = 10**15


@pytest.mark.parametrize(
    ("provoke", "amount"),
    [
        (lambda: bytearray(10**17), ""),
        (lambda: np.empty(MUCH, dtype=np.uint8), " (909. TiB were asked for)"),
        (lambda: torch.empty(MUCH, dtype=torch.uint8), " (909.5 TiB were asked for)"),
    ],
)
def test_memory(provoke, amount):
    assert sentence_for_system_error(raised(provoke)) == (
        f"The memory is used up{amount}: use a smaller batch_size or fewer num_workers, or give the process more "
        "memory."
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a file of Linux")
def test_disks():
    # The file is known to whoever closes it, and not to the error.
    error = raised(lambda: Path("/dev/full").write_text("x"))
    assert sentence_for_system_error(error) == (
        "A file cannot be written: the disk is full. Free some space, or give another place."
    )


@pytest.mark.parametrize(
    ("provoke", "sentence"),
    [
        (lambda: Path("x" * 300).touch(), f"{'x' * 300}: File name too long: give another one."),
        (lambda: Path("file/x").touch(), "file/x: Not a directory: give another one."),
        (lambda: Path("folder").write_text(""), "folder: Is a directory: give another one."),
    ],
)
def test_files(provoke, sentence):
    Path("file").touch()
    Path("folder").mkdir()
    assert sentence_for_system_error(raised(provoke)) == sentence


def test_threads():
    before = threading.stack_size(1 << 46)  # more than there are addresses
    try:
        error = raised(threading.Thread(target=print).start)
    finally:
        threading.stack_size(before)
    assert sentence_for_system_error(error).startswith("The system starts no more threads")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_a_gpu():
    error = raised(lambda: torch.empty(MUCH, dtype=torch.uint8, device="cuda"))
    assert sentence_for_system_error(error).startswith("The memory of the GPU is used up")


def test_faults_of_the_program_are_none_of_the_system():
    for provoke in (lambda: Path("missing").read_text(), lambda: [][1], lambda: torch.zeros(2) @ torch.zeros(3)):
        assert sentence_for_system_error(raised(provoke)) is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_a_library_that_does_not_fit_into_the_memory():
    code = (
        "from longtail_lightning._system_errors import sentence_for_system_error as told\n"
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (700_000_000,) * 2)\n"
        "try:\n    import torch\nexcept Exception as error:\n    print(told(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("The memory is used up"), done.stderr
