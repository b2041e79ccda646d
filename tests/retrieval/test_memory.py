"""The memory answers like a list of items that is searched one by one, through any sequence of edits."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtail_lightning import FeatureBank, LongTailError
from longtail_lightning.retrieval import FaissIndex, QdrantIndex, RetrievalMemory
from tests.ddp.pool import Pool

pytestmark = pytest.mark.filterwarnings("ignore:This memory's Qdrant lives in this process alone")
WIDTH = 6
INDEXES = {
    "exact": FaissIndex(),
    "hnsw": FaissIndex("hnsw", links=8),
    "qdrant": QdrantIndex(),
    "ivf": FaissIndex("ivf", cells=3, probes=3, codec="Flat", metric="l2"),
}


def bank(number, seed=0, ids="names", encoder=None):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(number, WIDTH, generator=generator)
    names = [f"s{seed}/{i}" for i in range(number)] if ids == "names" else None
    fingerprint = {"encoder": {"class": "Net", "checksum": encoder}} if encoder else None
    return FeatureBank.from_arrays(features, None, names, fingerprint=fingerprint)


def texts(number, seed=0):
    draw = random.Random(seed)
    return [draw.choice(["cat", "dog", "wolf", "axolotl", "bär"]) for _ in range(number)]


class Model:
    """What a memory should be: items in a dict, in the order of their sources."""

    def __init__(self, metric):
        self.items = {}
        self.metric = metric

    def add(self, name, given, given_texts):
        for item, vector, text in zip(given.ids, given.features, given_texts):
            self.items[name, item] = (vector.double(), text)

    def best(self, query, k, unwanted):
        found = []
        for key, (vector, text) in self.items.items():
            if unwanted is not None and key in (unwanted, (key[0], unwanted)):
                continue
            if self.metric == "cosine":
                score = float(query @ vector / query.norm() / vector.norm())
            else:
                score = -float((query - vector).square().sum())
            found.append((score, *key, text))
        return sorted(found, reverse=True)[:k]


def assert_alike(memory, model, draw, exact):
    assert len(memory) == len(model.items)
    assert sum(memory.sources.values()) == len(model.items)
    for key, (_, text) in draw.sample(list(model.items.items()), min(3, len(model.items))):
        assert memory.text(key) == text
    if len(model.items) < 2:
        return
    queries = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(draw.randint(0, 10**6)))
    k = draw.randint(1, min(12, len(model.items) - 1))
    keys = list(model.items)
    exclude = [None, draw.choice(keys), draw.choice(keys)[1], "nobody"] if draw.random() < 0.6 else None
    found = memory.search(queries, k, exclude)
    for row, query in enumerate(queries.double()):
        expected = model.best(query, k if exact else len(model.items), exclude[row] if exclude else None)
        if not exact:  # a graph may miss some; what it finds is there
            by_key = {(name, item): (score, name, item, text) for score, name, item, text in expected}
            expected = [by_key[key] for key in zip(found.sources[row], found.ids[row])]
        assert found.scores[row].tolist() == pytest.approx([score for score, *_ in expected], abs=1e-4)
        told = list(zip(found.sources[row], found.ids[row], found.texts[row]))
        assert told == [(name, item, text) for _, name, item, text in expected]


@pytest.mark.parametrize("kind", INDEXES)
@given(draw=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_sequence_of_edits_gives_what_is_left(kind, draw, tmp_path):
    seed = draw.randint(0, 10**6)
    like = INDEXES[kind]
    memory, model = RetrievalMemory(like), Model(like.metric)
    for step in range(25):
        act = draw.random()
        if act < 0.25 or len(model.items) < 3:
            number = draw.randint(3, 30)
            name, new, words = f"source {step}", bank(number, 100 * seed + step), texts(number, step)
            memory.add_source(name, new, words)
            model.add(name, new, words)
        elif act < 0.5:
            gone = draw.sample(list(model.items), draw.randint(1, len(model.items) // 2))
            memory.remove([key if draw.random() < 0.5 else key[1] for key in gone])
            for key in gone:
                del model.items[key]
        elif act < 0.65:
            key, text = draw.choice(list(model.items)), draw.choice(["cat", f"new {step}"])
            memory.relabel(key, text)
            model.items[key] = (model.items[key][0], text)
        elif act < 0.72 and len(memory.sources) > 1:
            name = draw.choice(list(memory.sources))
            memory.remove_source(name)
            model.items = {key: value for key, value in model.items.items() if key[0] != name}
        elif act < 0.92:
            path = tmp_path / draw.choice("ab")
            memory.save(path)
            assert memory.verify() == {}
            memory = RetrievalMemory.load(path, mmap=draw.random() < 0.5, verify=draw.choice([None, True, False]))
        else:
            memory.compact()
        assert_alike(memory, model, draw, exact=kind != "hnsw")


def test_texts_are_those_given_those_of_the_bank_or_the_names_of_classes():
    features = torch.eye(3)
    assert RetrievalMemory.build(FeatureBank.from_arrays(features, texts=["a", "b", "c"])).text(1) == "b"
    named = FeatureBank.from_arrays(features, [0, 1, 1], class_names=["cat", "dog"])
    assert RetrievalMemory.build(named).text(2) == "dog"
    assert list(RetrievalMemory.build(named).different_texts) == ["cat", "dog"]
    assert RetrievalMemory.build(named, ["x", "y", "z"]).text(0) == "x"


def test_an_id_belongs_to_its_source():
    memory = RetrievalMemory.build(bank(4, ids="numbers"), texts(4), name="a")
    memory.add_source("b", bank(4, 1, ids="numbers"), texts(4))
    with pytest.raises(LongTailError, match=r"an item 2 in 'a' and 'b': say which one, \(source, id\)"):
        memory.remove([2])
    memory.remove([("a", 2)])
    memory.remove([2])
    assert memory.sources == {"a": 3, "b": 3}
    query = bank(4, ids="numbers").features[:1]
    assert memory.search(query, 1).ids == [[0]]
    assert memory.search(query, 6).sources[0].count("b") == 3
    assert 0 not in memory.search(query, 4, exclude=[0]).ids[0], "a bare id is that of all sources"
    assert memory.search(query, 5, exclude=[("b", 0)]).ids[0][0] == 0


def test_what_was_found_stays_true_after_an_edit():
    memory = RetrievalMemory.build(bank(4), texts(4))
    found = memory.search(bank(4).features, 2)
    memory.remove(["s0/0"])
    memory.relabel("s0/1", "something else")
    assert found.ids[0][0] == "s0/0"
    assert found.texts[1][0] == texts(4)[1]


def test_banks_and_indexes_are_written_once(tmp_path):
    memory = RetrievalMemory.build(bank(50), texts(50), path=tmp_path / "m")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*") if "source-" in str(path)}
    memory.remove(["s0/3"])
    memory.relabel("s0/4", "x")
    memory.add_source("more", bank(5, 1), texts(5))
    memory.save()
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before
    memory.remove_source("train")
    memory.save()
    assert not any(path.exists() for path in before)
    assert RetrievalMemory.load(tmp_path / "m").sources == {"more": 5}


def test_a_memory_that_has_moved(tmp_path):
    RetrievalMemory.build(bank(9), texts(9), path=tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    memory = RetrievalMemory.load(tmp_path / "there")
    memory.remove(["s0/1"])
    memory.save()
    assert len(RetrievalMemory.load(tmp_path / "there")) == 8


def test_who_was_overtaken_is_told(tmp_path):
    RetrievalMemory.build(bank(9), texts(9), path=tmp_path / "m")
    first, second = RetrievalMemory.load(tmp_path / "m"), RetrievalMemory.load(tmp_path / "m")
    first.remove(["s0/1"]).save()
    second.remove(["s0/2"])
    with pytest.raises(LongTailError, match="Another process has changed the memory"):
        second.save()
    second.save(tmp_path / "other")
    assert len(RetrievalMemory.load(tmp_path / "m")) == len(RetrievalMemory.load(tmp_path / "other")) == 8
    first.remove(["s0/2"]).save()


def test_other_things_in_the_folder_stay(tmp_path):
    (tmp_path / "source-images").mkdir()
    (tmp_path / "source-notes.txt").write_text("mine")
    for _ in range(2):
        RetrievalMemory.build(bank(5), texts(5), path=tmp_path)
    assert (tmp_path / "source-images").is_dir()
    assert (tmp_path / "source-notes.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("source-*"))) == 3


def test_the_folder_is_the_same_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RetrievalMemory.build(bank(5), texts(5), path="m")
    memory = RetrievalMemory.load("m").remove(["s0/1"])
    (tmp_path / "below").mkdir()
    monkeypatch.chdir("below")
    memory.save()
    assert len(RetrievalMemory.load("../m")) == 4


def test_items_are_named_by_numbers_of_any_kind():
    memory = RetrievalMemory.build(bank(5, ids="numbers"), texts(5))
    own = memory.features(torch.tensor(2))
    for exclude in ([2], torch.tensor([2]), np.array([2]), [np.int64(2)], [("train", 2)]):
        assert memory.search(own, np.int64(1), exclude=exclude).ids[0][0] != 2
    assert memory.has(np.int32(3))
    assert len(memory.remove(torch.tensor([0, 1]))) == 3


def test_what_cannot_be_added_leaves_nothing():
    memory = RetrievalMemory(FaissIndex("ivf", codec="nonsense"))
    with pytest.raises(LongTailError, match="codec='nonsense'"):
        memory.add_source("x", bank(4), texts(4))
    assert memory.sources == {}
    assert list(memory.different_texts) == []


def test_without_a_source_any_encoder_is_welcome():
    memory = small().remove_source("train").add_source("new", bank(3, encoder="bbb"), texts(3))
    assert memory.fingerprint["encoder"]["checksum"] == "bbb"


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_cosines_of_very_small_and_very_large_vectors(size):
    memory = RetrievalMemory.build(FeatureBank.from_arrays(size * torch.eye(3), texts=list("abc")))
    assert memory.search(size * torch.eye(3), 1).scores.flatten().tolist() == pytest.approx([1.0] * 3)


def damaged(folder: Path):
    """Ways of damage, and what an error says; each for a copy of its own."""
    memory = json.loads((folder / "memory.json").read_text())
    index = next(folder.glob("source-*/index-*"))
    alive = next(folder.glob("edits-*/0.alive.npy"))
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 4
    return {
        "no manifest": ((folder / "memory.json"), None, "is not a memory"),
        "half a manifest": ((folder / "memory.json"), json.dumps(memory).encode()[:50], "damaged"),
        "another format": ((folder / "memory.json"), b'{"format": 9}', "format 9"),
        "a file elsewhere": (
            folder / "memory.json",
            json.dumps({**memory, "edits": "../x"}).encode(),
            "names a file elsewhere",
        ),
        "a flipped bit": (index, bytes(content), "is not what was written"),
        "a cut index": (index, bytes(content[:-5]), "bytes instead of"),
        "no index": (index, None, "is missing"),
        "cut items": (alive, alive.read_bytes()[:-1], "bytes instead of"),
    }


@pytest.mark.parametrize("kind", ["no manifest", "half a manifest", "another format", "a file elsewhere",
                                  "a flipped bit", "a cut index", "no index", "cut items"])  # fmt: skip
def test_damage_is_told(tmp_path, kind):
    RetrievalMemory.build(bank(30), texts(30), path=tmp_path / "m")
    path, content, message = damaged(tmp_path / "m")[kind]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LongTailError, match=message):
        RetrievalMemory.load(tmp_path / "m")
    if kind == "a flipped bit":
        loaded = RetrievalMemory.load(tmp_path / "m", verify=False)
        assert list(loaded.verify().values()) == ["is not what was written"]
        with pytest.raises(LongTailError, match="is not what was written"):
            RetrievalMemory.load(tmp_path / "m", verify=True)


def shared(folder):
    memory = RetrievalMemory.load(folder)
    found = memory.search(bank(5, 7).features, 3)
    return found.ids, found.texts, found.scores.tolist()


def test_two_processes_share_a_memory(tmp_path):
    RetrievalMemory.build(bank(200), texts(200), path=tmp_path / "m", index="hnsw")
    with Pool(2) as pool:
        assert pool.run(shared, str(tmp_path / "m")) == [shared(tmp_path / "m")] * 2


def small():
    return RetrievalMemory.build(bank(4, encoder="aaa"), texts(4))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: RetrievalMemory.build(bank(3)), "have no texts: give texts="),
        (lambda: RetrievalMemory.build(bank(3), ["a", "b"]), "3 items and 2 texts"),
        (lambda: RetrievalMemory.build(bank(3), "abc"), "3 items and 1 texts"),
        (lambda: RetrievalMemory.build(bank(3), ["a", " ", "b"]), "text of item 's0/1' of 'train' is empty"),
        (lambda: RetrievalMemory.build(bank(3), ["a", 3, "b"]), "not a string"),
        (lambda: RetrievalMemory.build(bank(3), texts(3), index="flat"), "Unknown index='flat'"),
        (lambda: RetrievalMemory.build(bank(3), texts(3), metric="dot"), "Unknown metric='dot'"),
        (lambda: RetrievalMemory.build(bank(3), texts(3), name=" "), "name of a source"),
        (lambda: RetrievalMemory.build(bank(3).subset([0, 0]), texts(2)), "Two items of 'train' are called 's0/0'"),
        (lambda: small().add_source("train", bank(3), texts(3)), "a source 'train' already"),
        (lambda: small().add_source("x", FeatureBank.from_arrays(torch.ones(2, 3)), ["a", "b"]), "3 wide, .* memory 6"),
        (lambda: small().add_source("x", bank(3, encoder="bbb"), texts(3)), "made by Net bbb, not by Net aaa"),
        (lambda: small().remove_source("trian"), "no source 'trian'. Did you mean train"),
        (lambda: small().remove(["s0/9"]), "no item 's0/9' in the memory"),
        (lambda: small().remove([("train", "s0/9")]), "no item 's0/9' in the source 'train'"),
        (lambda: small().remove("s0/1"), "ids are a list"),
        (lambda: small().remove(["s0/1"]).text("s0/1"), "no item 's0/1'"),
        (lambda: small().relabel("s0/1", ""), "not empty"),
        (lambda: small().search(torch.ones(2, WIDTH), 5), "k=5: the memory has 4 items; ask for at most 4"),
        (
            lambda: small().search(torch.ones(1, WIDTH), 4, ["s0/1"]),
            "4 items, 3 without what is excluded; .* at most 3",
        ),
        (lambda: small().search(torch.ones(2, WIDTH), 1, ["s0/1"]), "exclude names 1 items for 2 queries"),
        (lambda: small().search(torch.ones(2, 3), 1), "queries are 3 wide, the features of the memory 6"),
        (lambda: small().search(torch.full((2, WIDTH), torch.nan), 1), "NaN or infinity"),
        (lambda: small().search(torch.ones(2, WIDTH), 1, [["train", "s0/1"], None]), "named by its id, or"),
        (lambda: small().search(torch.ones(1, WIDTH), 1, [("web", "s0/1")]), "no source 'web'"),
        (lambda: small().search(torch.ones(2, WIDTH), 1, "s0/1"), "exclude names an item, or None, for each query"),
        (lambda: small().search(torch.ones(WIDTH), 1), r"Queries are \(queries, features\)"),
        (lambda: small().remove([["s0/1"]]), "named by its id, or"),
        (lambda: small().save(), "never written"),
        (lambda: small().verify(), "never written"),
        (lambda: RetrievalMemory.load("nowhere"), "is not a memory"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(LongTailError, match=message):
        act()
