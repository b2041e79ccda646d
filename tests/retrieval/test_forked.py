"""Loading processes search a memory that their parent has searched before: FAISS waits forever where it may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

# FAISS comes before torch here: else, in some installations, both use the threads of torch, which takes care of them.
_SEARCH = """
import faiss
import torch
from torch.utils.data import DataLoader, Dataset
from longtail_lightning import FeatureBank
from longtail_lightning.retrieval import RetrievalMemory

faiss.omp_set_num_threads(2)
torch.manual_seed(0)
bank = FeatureBank.from_arrays(torch.randn(3000, 16), texts=["x"] * 3000)
memory = RetrievalMemory.build(bank, index="KIND")
queries = torch.randn(128, 16)
expected = memory.search(queries, 5)

class Searched(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        found = memory.search(queries[32 * index : 32 * index + 32], 5)
        return found.rows, found.scores

loader = DataLoader(Searched(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
rows, scores = map(torch.cat, zip(*loader))
assert torch.equal(rows, expected.rows)
assert torch.allclose(scores, expected.scores)
"""

# Threads of torch may be those of FAISS, and who forks without a DataLoader has them still.
_FIRST_IN_THE_CHILD = """
import os
import torch
from longtail_lightning import FeatureBank
from longtail_lightning.retrieval import RetrievalMemory

torch.set_num_threads(2)
bank = FeatureBank.from_arrays(torch.randn(3000, 16), texts=["x"] * 3000)
torch.randn(1000, 1000).exp().sum()
child = os.fork()
if child == 0:
    RetrievalMemory.build(bank, index="KIND").search(torch.randn(64, 16), 5)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
@pytest.mark.parametrize("script", [_SEARCH, _FIRST_IN_THE_CHILD], ids=["searched before", "first in the child"])
def test_a_loading_process_finds_what_its_parent_finds(script, kind):
    command = [sys.executable, "-W", "ignore", "-c", script.replace("KIND", kind)]
    # A session of its own: processes that hang end with it.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, told = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the search of a forked process hangs")
    assert process.returncode == 0, told
