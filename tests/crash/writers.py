"""Everything in the library that writes files. A new writer joins `WRITERS` with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from longtail_lightning import (
    BaseClassifier,
    ClassCounts,
    Comparison,
    FeatureBank,
    IdentityBackbone,
    PredictionWriter,
    PrototypeHead,
    RetrievalMemory,
    SyntheticLongTail,
    extract_features,
    load,
)
from longtail_lightning._files import write_json, write_text
from longtail_lightning._torch_files import read_torch_file
from longtail_lightning.cli._stage_run import FINISHED
from longtail_lightning.curation import DataReport, prepare_shards
from longtail_lightning.datasets import ImageShards, verify_shards
from longtail_lightning.modules import Classifier
from longtail_lightning.plugins import WholeCheckpointIO
from longtail_lightning.report.comparison import save_figure
from tests.features.data import encoder, images
from tests.tiny import tiny_data, tiny_model, tiny_trainer


class Writer(NamedTuple):
    """A writer, and how to see what it has written."""

    name: str
    write: Callable[[Path, int], Any]
    """Write to a folder, one content for 0 and another one for 1."""
    read: Callable[[Path], Any]
    """What a reader sees, as a value to compare; an error when it is neither content."""
    continues: bool = False
    """Whether it is many files that a killed call leaves unfinished, and the next call completes."""


def file(name: str) -> Callable[[Path], bytes]:
    return lambda folder: (folder / name).read_bytes()


def bank(version: int) -> FeatureBank:
    if version:
        return FeatureBank.from_arrays(torch.ones(5, 3), [1] * 5, None, ["new"] * 5)
    return FeatureBank.from_arrays(torch.zeros(6, 4), [0] * 6, list("abcdef"), ["old"] * 6)


def read_bank(folder: Path) -> Any:
    found = FeatureBank.load(folder / "bank", verify=True)
    texts = None if found.texts is None else list(found.texts)
    return found.views.tolist(), found.labels.tolist(), list(found.ids), texts


def checkpoint(version: int) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((100, 100), float(version))}, "epoch": version}


def read_checkpoint(folder: Path) -> Any:
    found = read_torch_file(folder / "x.ckpt", verify=True)
    return found["epoch"], found["state_dict"]["weight"].unique().tolist()


def extract(folder: Path, version: int) -> None:
    loader = DataLoader(images(), batch_size=4)
    extract_features(encoder(version), loader, path=folder / "bank", shard_size=12, split="train", progress=False)


def shards(folder: Path, version: int) -> None:
    data = SyntheticLongTail(num_classes=3, max_count=4, imbalance_factor=2, val_per_class=1, test_per_class=1)
    prepare_shards(data, folder / "shards", shard_size=1)


def read_shards(folder: Path) -> Any:
    found = ImageShards(folder / "shards", "train", verify=True)
    assert verify_shards(folder / "shards") == {}
    return [int(label) for label in found.labels], len(found)


def predict(name: str) -> Callable[[Path, int], None]:
    def write(folder: Path, version: int) -> None:
        data = tiny_data()
        torch.manual_seed(version)
        writer = PredictionWriter(str(folder / name))
        trainer = tiny_trainer(callbacks=[writer])
        trainer.predict(tiny_model(data), data, return_predictions=False)

    return write


def comparison(folder: Path, version: int) -> None:
    counts = ClassCounts([9, 3])
    Comparison("x", {"a": torch.tensor([0.5, version])}, counts, counts.shots()).save(folder, {"record": "x.json"})


def figure(folder: Path, version: int) -> None:
    from matplotlib.figure import Figure

    made = Figure(figsize=(1, 1))
    made.subplots().plot([0, version])
    save_figure(folder / "x.png", made)


def changed_model(folder: Path, version: int) -> None:
    module = BaseClassifier([9, 3], backbone=IdentityBackbone(4), head=PrototypeHead, class_names=["a", "b"])
    bank = FeatureBank.from_arrays(torch.eye(4), [0, 1, 0, 1])
    module.head.fit(bank)  # type: ignore[operator]
    Classifier(module, None).add_classes({f"new{version}": torch.eye(4)}).save(folder / "x.ckpt")


def changed_classes(folder: Path) -> list[str]:
    return load(folder / "x.ckpt", verify=True).class_names


def memory(folder: Path, version: int) -> None:
    RetrievalMemory.build(bank(version), path=folder / "memory")


def edited_memory(folder: Path, version: int) -> None:
    if version == 0:
        memory(folder, 0)
        return
    found = RetrievalMemory.load(folder / "memory")
    if "more" not in found.sources:
        found.add_source("more", FeatureBank.from_arrays(torch.ones(2, 4)), ["x", "y"])
        found.remove(["b"]).relabel("c", "z")
    found.save()


def read_memory(folder: Path) -> Any:
    found = RetrievalMemory.load(folder / "memory", verify=True)
    near = found.search(torch.ones(1, found.num_features), len(found))
    return found.sources, sorted(zip(near.sources[0], map(str, near.ids[0]), near.texts[0]))


WRITERS = [
    Writer("text", lambda folder, version: write_text(folder / "x", f"{version}" * 9), file("x")),
    Writer("json", lambda folder, version: write_json(folder / FINISHED, {"a": version}), file(FINISHED)),
    Writer(
        "checkpoint", lambda f, v: WholeCheckpointIO().save_checkpoint(checkpoint(v), f / "x.ckpt"), read_checkpoint
    ),
    Writer("bank", lambda folder, version: bank(version).save(folder / "bank"), read_bank),
    Writer("features", extract, read_bank, continues=True),
    Writer("shards", shards, read_shards, continues=True),
    Writer("predictions.csv", predict("p.csv"), file("p.csv")),
    Writer("predictions.parquet", predict("p.parquet"), file("p.parquet")),
    Writer("data report", lambda folder, version: DataReport({"train": version}).save(folder / "x"), file("x")),
    Writer("comparison", comparison, file("x.json")),
    Writer("plot", figure, file("x.png")),
    Writer("memory", memory, read_memory),
    Writer("edited memory", edited_memory, read_memory),
    Writer("changed model", changed_model, changed_classes),
]
