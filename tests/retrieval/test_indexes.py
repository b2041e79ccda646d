"""Every index answers like a comparison with all vectors, through any sequence of changes."""

from __future__ import annotations

import copy
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtail_lightning import LongTailError
from longtail_lightning.retrieval import FaissIndex, QdrantIndex
from longtail_lightning.retrieval import faiss_index as faiss_module
from longtail_lightning.retrieval import index as index_module
from longtail_lightning.retrieval.index import NOBODY

pytestmark = pytest.mark.filterwarnings("ignore:This memory's Qdrant lives in this process alone")
WIDTH = 6
INDEXES = {
    "exact": lambda **options: FaissIndex(**options),
    "hnsw": lambda **options: FaissIndex("hnsw", links=8, **options),
    "qdrant": lambda **options: QdrantIndex(**options),
    "ivf": lambda **options: FaissIndex("ivf", cells=4, probes=4, codec="Flat", **options),
}
each_index = pytest.mark.parametrize("make", INDEXES.values(), ids=INDEXES)
each_metric = pytest.mark.parametrize("metric", ["cosine", "l2"])


def vectors(number, seed=0):
    return np.random.default_rng(seed).standard_normal((number, WIDTH)).astype(np.float32)


def compared(held, queries, k, exclude, metric):
    """Scores of the best k of each query, one vector at a time."""
    rows = []
    for query, unwanted in zip(queries.astype(float), exclude):
        found = []
        for name, vector in held.items():
            if name == unwanted:
                continue
            vector = vector.astype(float)
            if metric == "cosine":
                score = query @ vector / (query @ query) ** 0.5 / (vector @ vector) ** 0.5
            else:
                score = -((query - vector) ** 2).sum()
            found.append((score, name))
        rows.append(sorted(found, reverse=True)[:k])
    return rows


def assert_finds(index, held, metric, k, exclude=None):
    queries = vectors(5, seed=99)
    found = index.search(queries, k, exclude)
    unwanted = [NOBODY] * 5 if exclude is None else exclude
    for query, (ids, scores, row) in enumerate(
        zip(found.ids, found.scores, compared(held, queries, len(held), unwanted, metric))
    ):
        there = ids != NOBODY
        assert there.sum() == min(k, len(row)), query
        if getattr(index, "kind", "") == "hnsw":  # it may miss some; what it finds is there, and in its order
            assert list(scores[there]) == sorted(scores[there], reverse=True)
            assert len(set(ids[there].tolist())) == there.sum()
            score_of = {name: score for score, name in row}
            row = [(score_of[name], name) for name in ids[there].tolist()]
        assert list(ids[there]) == [name for _, name in row[:k]]
        np.testing.assert_allclose(scores[there], [score for score, _ in row[:k]], rtol=0, atol=1e-4)
        assert np.isneginf(scores[~there]).all()


@each_index
@each_metric
@given(draw=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_sequence_of_changes_gives_what_is_left(make, metric, draw, tmp_path):
    index = make(metric=metric)
    held, fresh, seed = {}, 0, draw.randint(0, 10**6)
    for step in range(14):
        act = draw.random()
        if act < 0.45 or not held:
            new = vectors(draw.randint(4, 40), seed=1000 * seed + step)
            ids = [fresh + 3 * i for i in range(len(new))]
            fresh += 3 * len(new)
            index.add(new, ids)
            held |= dict(zip(ids, new))
        elif act < 0.7:
            gone = draw.sample(list(held), draw.randint(1, max(1, 2 * len(held) // 3)))
            index.remove(gone)
            held = {name: vector for name, vector in held.items() if name not in gone}
        elif act < 0.85:
            index.save(tmp_path / f"{step}.index")
            index = index.new().load(tmp_path / f"{step}.index", mmap=draw.random() < 0.5)
        else:
            index = draw.choice([copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])(index)
        assert len(index) == len(held)
        assert sorted(index.ids().tolist()) == sorted(held)
        if held:
            exclude = [draw.choice([NOBODY, *held]) for _ in range(5)]
            k = draw.randint(1, len(held))
            assert_finds(index, held, metric, k)
            assert_finds(index, held, metric, k, exclude)


@each_index
def test_more_than_there_is(make):
    index = make().add(vectors(5), range(5))
    assert_finds(index, dict(enumerate(vectors(5))), "cosine", 8)
    index.remove(range(4))
    assert index.search(vectors(2), 3).ids.tolist() == [[4, NOBODY, NOBODY]] * 2
    assert index.search(vectors(2), 3, [4, NOBODY]).ids.tolist() == [[NOBODY] * 3, [4, NOBODY, NOBODY]]
    index.remove([4])
    assert len(index) == 0
    assert index.search(vectors(2), 1).ids.tolist() == [[NOBODY]] * 2
    assert index.search(vectors(0), 2).ids.shape == (0, 2)
    assert_finds(index.add(vectors(3), range(3)), dict(enumerate(vectors(3))), "cosine", 3)


@each_metric
def test_a_graph_finds_nearly_all(metric):
    index = FaissIndex("hnsw", metric=metric).add(vectors(2000), range(2000))
    index.remove(range(900))
    exact = FaissIndex(metric=metric).add(vectors(2000)[900:], range(900, 2000))
    found, expected = (each.search(vectors(200, 1), 10).ids for each in (index, exact))
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.tolist(), expected.tolist())]) > 0.98


def test_cells_that_were_not_looked_into_are_when_too_little_was_found():
    index = FaissIndex("ivf", cells=10, probes=1, codec="Flat").add(vectors(100), range(100))
    assert (index.search(vectors(5, 1), 60).ids != NOBODY).all()


def test_a_graph_is_built_anew_before_half_of_it_is_dead():
    index = FaissIndex("hnsw").add(vectors(100), range(100))
    index.remove(range(50))
    assert len(index._ids) == 100
    index.remove([50])
    assert len(index._ids) == 49


class Rows:
    """Vectors somewhere else, which says how many were asked for at a time."""

    def __init__(self, values):
        self.values, self.shape, self.asked = values, values.shape, []

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        found = self.values[rows]
        self.asked.append(len(found))
        return found


@each_index
@each_metric
def test_many_vectors_are_added_in_blocks(make, metric, monkeypatch):
    for module in (index_module, faiss_module):
        monkeypatch.setattr(module, "BLOCK", 70)
    rows = Rows(vectors(1000))
    index = make(metric=metric).add(rows, range(5, 1005))
    assert sum(rows.asked) >= 1000
    assert max(rows.asked) <= (64 * 4 if getattr(index, "kind", "") == "ivf" else 70), "cells are found with a sample"
    assert_finds(index, {5 + row: vector for row, vector in enumerate(vectors(1000))}, metric, 20)
    more = Rows(vectors(150, 1))
    index.add(more, range(2000, 2150))
    assert max(more.asked) <= 70
    held = {5 + row: vector for row, vector in enumerate(vectors(1000))}
    assert_finds(index, held | {2000 + row: vector for row, vector in enumerate(vectors(150, 1))}, metric, 20)


@each_index
def test_a_bad_vector_in_a_late_block_leaves_the_index_as_it_was(make, monkeypatch):
    monkeypatch.setattr(index_module, "BLOCK", 10)
    index = make().add(vectors(40), range(40))
    bad = vectors(40, 1)
    bad[35] = np.nan
    with pytest.raises(LongTailError, match="NaN or infinity"):
        index.add(bad, range(100, 140))
    assert_finds(index, dict(enumerate(vectors(40))), "cosine", 10)


def test_cells_of_a_sample_find_nearly_all(monkeypatch):
    centers = np.random.default_rng(0).standard_normal((100, 32)).astype(np.float32)
    many = np.repeat(centers, 100, 0) + 0.3 * np.random.default_rng(1).standard_normal((10_000, 32)).astype(np.float32)
    whole = FaissIndex("ivf", cells=50).add(many, range(10_000))
    for module in (index_module, faiss_module):
        monkeypatch.setattr(module, "BLOCK", 1000)
    sampled = FaissIndex("ivf", cells=50).add(torch.from_numpy(many).half(), range(10_000))
    exact = FaissIndex().add(many, range(10_000)).search(many[::100], 10).ids.tolist()
    for index in (whole, sampled):
        found = index.search(many[::100], 10).ids.tolist()
        assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, exact)]) > 0.95


def test_tensors_of_any_type():
    index = FaissIndex().add(torch.eye(WIDTH, dtype=torch.float16), torch.arange(WIDTH))
    query = torch.eye(WIDTH, requires_grad=True, dtype=torch.bfloat16)
    assert index.search(query, 1).ids.flatten().tolist() == list(range(WIDTH))


def test_a_forked_process_searches_after_its_parent():
    """With more than one thread it would wait forever for threads that only the parent has."""
    index = FaissIndex("hnsw").add(vectors(3000), range(3000))
    expected = index.search(vectors(300, 1), 3).ids
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        same = False
        try:
            same = bool((index.search(vectors(300, 1), 3).ids == expected).all())
        finally:
            os._exit(0 if same else 1)
    import signal
    import time

    end = time.monotonic() + 60
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the search of a forked process hangs")


@each_index
@pytest.mark.parametrize("damage", ["cut", "end", "empty"])
def test_a_damaged_file(make, damage, tmp_path):
    path = tmp_path / "x"
    told = make().add(vectors(50), range(50)).save(path)
    content = path.read_bytes()
    assert told["bytes"] == len(content)
    new = {"cut": content[: len(content) // 2], "end": content[:-1] + b"x", "empty": b""}[damage]
    path.write_bytes(new)
    with pytest.raises(LongTailError, match=r"x is damaged or of another kind \(.*\): build it again"):
        make().load(path)


@pytest.mark.parametrize("other", [{"kind": "hnsw"}, {"metric": "l2"}, {"kind": "ivf"}])
def test_an_index_of_another_kind_is_refused(other, tmp_path):
    FaissIndex().add(vectors(50), range(50)).save(tmp_path / "x")
    with pytest.raises(LongTailError, match="of another kind"):
        FaissIndex(**other).load(tmp_path / "x")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: FaissIndex("flat"), "Unknown kind='flat': choose one of 'exact', 'hnsw', 'ivf'"),
        (lambda: FaissIndex(metric="dot"), "Unknown metric='dot'"),
        (lambda: FaissIndex(links=0), "links"),
        (lambda: FaissIndex("ivf", codec="PQ4").add(vectors(20), range(20)), "codec='PQ4' does not work on 20 vectors"),
        (lambda: FaissIndex().add(vectors(2), [1]), "2 vectors and 1 ids"),
        (lambda: FaissIndex().add(vectors(2), [1, 1]), "added twice"),
        (lambda: FaissIndex().add(vectors(2), [1, 2]).add(vectors(1), [2]), "added twice"),
        (lambda: FaissIndex().add(vectors(2), [-1, 1]), "at least 0, got -1"),
        (lambda: FaissIndex().add(vectors(2), ["a", "b"]), "one whole number each"),
        (lambda: FaissIndex().add(vectors(1)[0], [1]), r"Vectors are \(n, features\)"),
        (lambda: FaissIndex().add(vectors(1) * np.nan, [1]), "NaN or infinity"),
        (lambda: FaissIndex(metric="l2").add(vectors(1) * 1e20, [1]), "squares are infinite"),
        (lambda: FaissIndex().add(vectors(2), [1, 2]).add(np.ones((1, 3)), [5]), "6 wide, got 3"),
        (lambda: FaissIndex().add(vectors(2), [1, 2]).search(np.ones((1, 3)), 1), "6 wide, got queries 3"),
        (lambda: FaissIndex().add(vectors(2), [1, 2]).remove([3]), "no vector with the id 3"),
        (lambda: FaissIndex().add(vectors(2), [1, 2]).search(vectors(2), 0), "k"),
        (lambda: FaissIndex().add(vectors(2), [1, 2]).search(vectors(2), 1, [1]), "exclude has 1 ids for 2 queries"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(LongTailError, match=message):
        act()
