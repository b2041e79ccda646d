"""What all tests share. Nothing here needs a download, a GPU or the network."""

from __future__ import annotations

import signal

import pytest
import torch

from tests.ddp.pool import Pool

# Tests run in several processes at once: one thread each, or they wait for each other.
torch.set_num_threads(1)

# A shell that starts a job in the background lets it ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pool():
    """Two gloo processes that live as long as the test session; mark the test with `ddp`."""
    with Pool(2) as processes:
        yield processes


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path, monkeypatch, request):
    """Whatever a test writes lands in its own folder; seeds of one test do not reach the next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    """All tests with the pool go to one worker, so that it is started once."""
    for item in items:
        if "pool" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ddp"))
