"""Loading processes that the system refuses something: the main process does not wait for their batches."""

from __future__ import annotations

import sys

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning.datasets.loader import ResumableLoader
from tests.cli.conftest import MODEL, TINY
from tests.failures.process import LTL, run, sentence, with_own_mounts

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory is a folder of Linux")

LOAD = """
import os, resource, sys, torch
from longtail_lightning import LongTailError
from longtail_lightning.datasets.loader import ResumableLoader

class Images(torch.utils.data.Dataset):
    labels = [0] * 64
    def __len__(self): return 64
    def __getitem__(self, i): return [torch.zeros(100, 100) for _ in range(5)]

def load(limit, least, most):
    if limit == resource.RLIMIT_NOFILE:
        least, most = (len(os.listdir("/proc/self/fd")) + number for number in (least, most))
    hard = resource.getrlimit(limit)[1]
    for soft in range(least, most, 3):
        resource.setrlimit(limit, (soft, hard))
        try:
            list(ResumableLoader(Images(), batch_size=8, num_workers=2, collate_fn=lambda items: items))
            print("loaded")
        except LongTailError as error:
            print(error)
        finally:
            resource.setrlimit(limit, (hard, hard))
"""


def test_no_room_in_the_shared_memory():
    # A limit of the size of files is one of shared memory too, and anyone can set it.
    _, out, _ = run([sys.executable, "-c", f"{LOAD}\nload(resource.RLIMIT_FSIZE, 10_000, 10_001)"])
    assert out.startswith("The shared memory (/dev/shm), through which loading processes hand over batches, is full")


def test_few_file_descriptors():
    status, out, err = run([sys.executable, "-c", f"{LOAD}\nload(resource.RLIMIT_NOFILE, 3, 40)"])
    told = set(out.splitlines())
    assert status == 0, err
    # A loading process may end without the file that Python's own clearing up takes, and says so.
    assert "Traceback" not in err or "_remove_temp_dir" in err
    assert told == {
        "Too many files are open at once: raise the limit with `ulimit -n 65536`, or use fewer num_workers.",
        "loaded",
    } or told == {"Too many files are open at once: raise the limit with `ulimit -n 65536`, or use fewer num_workers."}


class Functions(torch.utils.data.Dataset):
    labels = [0] * 8

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return lambda: index


def test_a_batch_that_cannot_be_sent():
    loader = ResumableLoader(Functions(), batch_size=4, num_workers=1, collate_fn=list)
    with pytest.raises(LongTailError, match=r"cannot hand over its batch .*lambda"):
        list(loader)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "8k", "64k"])  # too little for semaphores, and too little for batches
def test_a_small_shared_memory(size):
    mounted = with_own_mounts(f"mount -t tmpfs -o size={size} tmpfs /dev/shm")
    status, _, err = run([*mounted, *LTL, "fit", *MODEL, *TINY, "--data.num_workers=2", "--trainer.max_epochs=1"])
    assert sentence(status, err).startswith("The shared memory (/dev/shm)")


@pytest.mark.slow
@pytest.mark.parametrize("limit", [26, 30, 34, 38])
def test_few_file_descriptors_for_a_fit(limit):
    command = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *LTL, "fit", *MODEL, *TINY]
    status, _, err = run([*command, "--data.num_workers=2", "--trainer.max_epochs=1"])
    if status:
        assert sentence(status, err).startswith("Too many files are open at once")
