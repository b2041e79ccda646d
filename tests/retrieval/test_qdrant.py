"""What is peculiar to a database: it keeps vectors when files change, and it may not be there."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from longtail_lightning import FeatureBank, LongTailError
from longtail_lightning.retrieval import QdrantIndex, RetrievalMemory
from longtail_lightning.retrieval.qdrant_index import _client

pytestmark = pytest.mark.filterwarnings("ignore:This memory's Qdrant lives in this process alone")


def bank(number=6, seed=0):
    features = torch.randn(number, 4, generator=torch.Generator().manual_seed(seed))
    return FeatureBank.from_arrays(features, ids=[f"{seed}/{i}" for i in range(number)], texts=["x"] * number)


def collections():
    return {each.name for each in _client(None, None, 30).get_collections().collections}


@pytest.fixture
def alone():
    """Collections that this test has made."""
    before = collections()
    return lambda: collections() - before


def test_until_it_is_saved_nothing_is_deleted(tmp_path, alone):
    RetrievalMemory.build(bank(), index=QdrantIndex(), path=tmp_path / "m")
    memory = RetrievalMemory.load(tmp_path / "m")
    memory.remove(["0/2"])
    memory.add_source("more", bank(3, 1)).remove_source("more")
    assert len(memory.search(bank().features, 5).ids[0]) == 5
    again = RetrievalMemory.load(tmp_path / "m")
    assert len(again) == 6
    (name,) = {source.index._name for source in memory._items.sources.values()}
    memory.save()
    assert alone() == {name}
    assert _client(None, None, 30).count(name).count == 5
    assert len(RetrievalMemory.load(tmp_path / "m")) == 5


def test_a_killed_save_leaves_the_old_memory_or_the_new_one(tmp_path, monkeypatch):
    RetrievalMemory.build(bank(), index=QdrantIndex(), path=tmp_path / "m")
    memory = RetrievalMemory.load(tmp_path / "m").remove(["0/2"])
    monkeypatch.setattr(QdrantIndex, "settle", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        memory.save()
    monkeypatch.undo()
    found = RetrievalMemory.load(tmp_path / "m")
    assert not found.has("0/2")
    assert len(found.search(bank().features, 5).ids[0]) == 5


def test_a_copy_has_collections_of_its_own(tmp_path, alone):
    RetrievalMemory.build(bank(), index=QdrantIndex(), path=tmp_path / "a").save(tmp_path / "b")
    assert len(alone()) == 2
    one, other = RetrievalMemory.load(tmp_path / "a"), RetrievalMemory.load(tmp_path / "b")
    one.remove(["0/1"]).save()
    other.save()
    assert len(RetrievalMemory.load(tmp_path / "b").search(bank().features, 6)) == 6


def test_what_a_copy_does_without_stays_in_the_first_one(tmp_path):
    memory = RetrievalMemory.build(bank(), index=QdrantIndex()).add_source("web", bank(3, 1))
    memory.save(tmp_path / "a")
    other = RetrievalMemory.load(tmp_path / "a").remove_source("web")
    other.save(tmp_path / "b")
    other.save()
    assert RetrievalMemory.load(tmp_path / "a").sources == {"train": 6, "web": 3}


def test_a_save_can_be_repeated_when_the_database_was_away(tmp_path, monkeypatch):
    memory = RetrievalMemory.build(bank(), index=QdrantIndex(), path=tmp_path / "m").remove(["0/2"])
    monkeypatch.setattr(QdrantIndex, "settle", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        memory.save()
    monkeypatch.undo()
    memory.save()
    assert len(RetrievalMemory.load(tmp_path / "m")) == 5


def test_what_is_compacted_is_moved(tmp_path, alone):
    memory = RetrievalMemory.build(bank(), index=QdrantIndex(), path=tmp_path / "m")
    (before,) = alone()
    memory.remove(["0/1"]).compact().save()
    (after,) = alone()
    assert after != before
    assert len(RetrievalMemory.load(tmp_path / "m")) == 5


def test_many_that_were_removed_are_filtered():
    vectors = np.random.default_rng(0).standard_normal((60, 4))
    index = QdrantIndex(batch_size=20).add(vectors, range(60))
    index.remove(range(30))
    found = index.search(vectors[:3], 30)
    assert all(sorted(row) == list(range(30, 60)) for row in found.ids.tolist())


_IN_A_FOLDER = """
import sys, torch
from longtail_lightning import FeatureBank
from longtail_lightning.retrieval import QdrantIndex, RetrievalMemory
if sys.argv[1] == "build":
    bank = FeatureBank.from_arrays(torch.eye(4), ids=list("abcd"), texts=list("wxyz"))
    RetrievalMemory.build(bank, index=QdrantIndex(path="database"), path="m").remove(["b"]).save()
else:
    print(RetrievalMemory.load("m").search(torch.eye(4)[1:2], 3).ids)
"""


def test_a_folder_keeps_it_for_the_next_process():
    for act in ("build", "search"):
        done = subprocess.run([sys.executable, "-c", _IN_A_FOLDER, act], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert sorted(eval(done.stdout)[0]) == ["a", "c", "d"]


@pytest.mark.parametrize("damage", ["deleted", "another width"])
def test_a_collection_that_is_gone_or_another_one(tmp_path, alone, damage):
    RetrievalMemory.build(bank(), index=QdrantIndex(), path=tmp_path / "m")
    (name,) = alone()
    client = _client(None, None, 30)
    client.delete_collection(name)
    if damage == "another width":
        QdrantIndex().add(np.eye(3), range(3))
        from qdrant_client import models

        client.create_collection(name, vectors_config=models.VectorParams(size=3, distance=models.Distance.COSINE))
    message = {"deleted": "has no collection", "another width": "vectors 3 wide, the memory's are 4"}[damage]
    with pytest.raises(LongTailError, match=message):
        RetrievalMemory.load(tmp_path / "m")


def test_a_server_that_is_not_there(tmp_path):
    RetrievalMemory.build(bank(), path=tmp_path / "m")
    with pytest.raises(LongTailError, match=r"Qdrant at http://127\.0\.0\.1:9 does not answer as it should"):
        RetrievalMemory.build(bank(), index=QdrantIndex("http://127.0.0.1:9", timeout=2), path=tmp_path / "m")
    assert len(RetrievalMemory.load(tmp_path / "m")) == 6, "the local one is untouched"
