"""A copy of a memory costs nothing and has edits of its own; another process opens the files."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import shutil

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from longtail_lightning import FeatureBank, LongTailError
from longtail_lightning.retrieval import FaissIndex, QdrantIndex, RetrievalMemory

KINDS = ["exact", "hnsw", "ivf"]
NAMES = [f"item {i}" for i in range(60)]


def bank(seed=0):
    features = torch.randn(60, 6, generator=torch.Generator().manual_seed(seed))
    return FeatureBank.from_arrays(features, ids=NAMES, texts=[f"text {i % 7}" for i in range(60)])


def told(memory):
    """Everything that a memory says."""
    found = memory.search(bank().features[:9], 8)
    return memory.sources, list(memory.different_texts), found.ids, found.texts, found.sources, found.scores.tolist()


EDITS = {
    "remove": lambda memory: memory.remove(["item 3", "item 4"]),
    "remove most": lambda memory: memory.remove(NAMES[:40]),
    "relabel": lambda memory: memory.relabel("item 5", "something new"),
    "add": lambda memory: memory.add_source("more", bank(1), ["another text"] * 60),
    "remove source": lambda memory: memory.add_source("more", bank(1)).remove_source("train"),
    "compact": lambda memory: memory.remove(["item 3"]).compact(),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy])
@pytest.mark.parametrize("where", ["memory", "file"])
def test_edits_of_one_are_not_seen_in_the_other(edit, kind, copied, where, tmp_path):
    memory = RetrievalMemory.build(bank(), index=kind)
    memory.relabel("item 9", "a text that came later")
    if where == "file":
        memory = RetrievalMemory.load(memory.save(tmp_path / "m"))
    before = told(memory)
    other = copied(memory)
    assert told(other) == before
    edit(other)
    assert told(memory) == before
    after = told(other)
    assert after != before
    edit(memory)
    assert told(memory) == after
    memory.relabel("item 50" if "train" in memory.sources and len(memory.sources) == 1 else ("more", "item 50"), "x")
    assert told(other) == after


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_large_is_copied(kind):
    memory = RetrievalMemory.build(bank(), index=kind)
    other = copy.deepcopy(memory)
    (one,), (two,) = memory._items.sources.values(), other._items.sources.values()
    assert one.bank is two.bank
    assert one.index is not two.index
    assert one.index._index is two.index._index


@pytest.mark.parametrize("kind", KINDS)
def test_a_copied_index_that_gets_vectors_leaves_the_first_one(kind):
    index = FaissIndex(kind).add(bank().features, range(60))
    other = copy.deepcopy(index)
    other.add(bank(1).features, range(100, 160))
    assert (len(index), len(other)) == (60, 120)
    assert index._index.ntotal == 60
    index.add(bank(2).features, range(200, 260))
    assert sorted(other.ids().tolist()) == [*range(60), *range(100, 160)]
    assert other.search(bank(1).features[:1], 1).ids.tolist() == [[100]]


def test_who_saves_second_is_told(tmp_path):
    memory = RetrievalMemory.build(bank(), path=tmp_path / "m")
    other = copy.deepcopy(memory)
    other.remove(["item 3"]).save()
    memory.remove(["item 4"])
    with pytest.raises(LongTailError, match="Another process has changed the memory"):
        memory.save()
    memory.save(tmp_path / "n")
    assert len(RetrievalMemory.load(tmp_path / "m")) == len(RetrievalMemory.load(tmp_path / "n")) == 59


def test_a_memory_in_a_database_is_not_copied():
    memory = RetrievalMemory.build(bank(), index=QdrantIndex())
    with pytest.raises(LongTailError, match="cannot be copied, as both would edit the same ones: save it to another"):
        copy.deepcopy(memory)
    assert len(copy.deepcopy(RetrievalMemory(QdrantIndex()))) == 0


# -- other processes -------------------------------------------------------------------------------


class Searched(Dataset):
    def __init__(self, memory):
        self.memory = memory

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.memory.search(bank().features[index : index + 1], 5).rows[0]


@pytest.mark.parametrize("kind", KINDS)
def test_spawned_loading_processes_open_the_files(kind, tmp_path):
    memory = RetrievalMemory.build(bank(), index=kind).remove(["item 2"])
    memory.save(tmp_path / "m")
    spawned = multiprocessing.get_context("spawn")
    loader = DataLoader(Searched(memory), batch_size=4, num_workers=1, multiprocessing_context=spawned)
    assert torch.equal(next(iter(loader)), memory.search(bank().features[:4], 5).rows)


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_holds_no_features(kind, tmp_path):
    memory = RetrievalMemory.build(bank(), index=kind)
    memory.save(tmp_path / "m")
    data = pickle.dumps(memory)
    assert len(data) < 2000
    other = pickle.loads(data)
    assert told(other) == told(memory)
    assert other._items.sources["train"].bank.path is not None, "it is mapped"
    other.remove(["item 1"]).save()
    again = RetrievalMemory.load(tmp_path / "m")
    assert told(pickle.loads(pickle.dumps(again))) == told(again)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_after_an_edit_it_must_be_saved_first(edit, tmp_path):
    memory = RetrievalMemory.build(bank(), path=tmp_path / "m")
    edit(memory)
    for each in (memory, copy.deepcopy(memory)):
        with pytest.raises(LongTailError, match=r"was edited since it was written to .*m: save it first, memory\.save"):
            pickle.dumps(each)
    memory.save()
    assert told(pickle.loads(pickle.dumps(memory))) == told(memory)


def test_what_cannot_be_opened_again_is_refused(tmp_path):
    with pytest.raises(LongTailError, match=r"was never written: save it first, memory\.save\(path\)"):
        pickle.dumps(RetrievalMemory.build(bank()))
    memory = RetrievalMemory.build(bank(), path=tmp_path / "m")
    data = pickle.dumps(memory)
    memory.remove(["item 1"]).save()
    with pytest.raises(LongTailError, match="was changed while it was handed to another process: load it anew"):
        pickle.loads(data)
    shutil.rmtree(tmp_path / "m")
    with pytest.raises(LongTailError, match="is not a memory"):
        pickle.loads(data)


def test_what_is_refused_is_no_edit(tmp_path):
    memory = RetrievalMemory.build(bank(), path=tmp_path / "m")
    for act in (
        lambda: memory.remove(["nobody"]),
        lambda: memory.relabel("item 1", ""),
        lambda: memory.remove_source("nothing"),
        lambda: memory.add_source("train", bank(1)),
    ):
        with pytest.raises(LongTailError):
            act()
    pickle.dumps(memory)
