from __future__ import annotations

import csv
from pathlib import Path

import lightning as L
import pandas
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from longtail_lightning import PredictionWriter, _files
from longtail_lightning._errors import LongTailError
from tests.callbacks.own import Own
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def test_rows_are_the_predictions_by_name():
    data = tiny_data()
    model = tiny_model(data)
    outputs = tiny_trainer(callbacks=[PredictionWriter("deep/p.csv", top_k=3)]).predict(model, data)
    probabilities = torch.cat([output["logits"].softmax(1) for output in outputs])
    with open("deep/p.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["item"] for row in rows] == [str(i) for i in range(18)]
    assert [row["predicted"] for row in rows] == [data.class_names[c] for c in probabilities.argmax(1)]
    assert float(rows[4]["probability_2"]) == pytest.approx(probabilities[4].topk(2).values[1].item(), abs=1e-6)
    assert list(rows[0])[-1] == "probability_3"
    assert [row["label"] for row in rows] == [data.class_names[c] for c in data.labels("test")]
    assert list(rows[0])[:4] == ["item", "label", "predicted", "probability"]


def test_parquet_holds_the_same():
    data = tiny_data()
    model = tiny_model(data)
    tiny_trainer(callbacks=[PredictionWriter("p.csv")]).predict(model, data)
    tiny_trainer(callbacks=[PredictionWriter("p.parquet")]).predict(model, data)
    frame = pandas.read_csv("p.csv", dtype={"item": str})
    pandas.testing.assert_frame_equal(pandas.read_parquet("p.parquet"), frame, check_dtype=False)


def test_more_classes_than_there_are():
    data = tiny_data()
    tiny_trainer(callbacks=[PredictionWriter("p.csv", top_k=50)]).predict(tiny_model(data), data)
    assert "top_6" in Path("p.csv").read_text()
    assert "top_7" not in Path("p.csv").read_text()


def test_a_module_of_ones_own_without_labels():
    model = Own([3, 2, 1], width=3)
    images = torch.rand(6, 3, 32, 32)
    outputs = tiny_trainer(callbacks=[PredictionWriter("p.csv", top_k=1)]).predict(
        model, DataLoader(TensorDataset(images), batch_size=4)
    )
    logits = torch.cat([output["logits"] for output in outputs])
    with open("p.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["item", "predicted", "probability", "top_1", "probability_1"]
    assert [int(row["predicted"]) for row in rows] == logits.argmax(1).tolist()
    expected = logits.softmax(1).max(1).values.tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected, abs=1e-6)


def test_several_labels_per_image_are_no_label():
    several = torch.ones(4, 3)
    model = Own([3, 2, 1], width=3, answer=lambda outputs: {**outputs, "target": several})
    images = DataLoader(TensorDataset(torch.rand(4, 3, 32, 32)), batch_size=4)
    tiny_trainer(callbacks=[PredictionWriter("p.csv", top_k=1)]).predict(model, images)
    assert Path("p.csv").read_text().splitlines()[0] == "item,predicted,probability,top_1,probability_1"


class Stream(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for place in (4, 2, 0, 3, 1):
            yield torch.rand(3, 32, 32, generator=generator), place


class WithPlaces(Own):
    def predict_step(self, batch, batch_idx):
        return {**super().predict_step(batch, batch_idx), "index": batch[1]}


@pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices")
def test_places_that_a_module_returns_serve_any_loader():
    writer, loader = PredictionWriter("p.csv", top_k=1), DataLoader(Stream(), batch_size=2)
    outputs = tiny_trainer(callbacks=[writer]).predict(WithPlaces([3, 2, 1], width=3), loader)
    order = torch.cat([output["index"] for output in outputs]).argsort()
    with open("p.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["item"] for row in rows] == ["0", "1", "2", "3", "4"]
    predicted = torch.cat([output["logits"] for output in outputs]).argmax(1)[order]
    assert [int(row["predicted"]) for row in rows] == predicted.tolist()
    with pytest.raises(LongTailError, match=r"let predict_step of Own return their places as 'index' too"):
        tiny_trainer(callbacks=[PredictionWriter("q.csv")]).predict(Own([3, 2, 1], width=3), loader)


@pytest.mark.filterwarnings("ignore:predict returned None")
@pytest.mark.parametrize(
    ("answer", "found"), [(lambda outputs: None, "None"), (lambda outputs: outputs["logits"], "a Tensor")]
)
def test_a_module_that_returns_something_else_is_told(answer, found):
    with pytest.raises(LongTailError, match=rf"predict_step of Own returned {found}: return {{'logits': logits}}\.$"):
        tiny_trainer(callbacks=[PredictionWriter("p.csv")]).predict(Own(answer=answer), tiny_data())


@pytest.mark.parametrize("path", ["p.csv", "p.parquet"])
def test_a_file_is_written_whole_or_not_at_all(path, monkeypatch):
    data = tiny_data()
    model = tiny_model(data)
    Path(path).write_text("of the run before")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "to_disk", full)
    with pytest.raises(LongTailError, match=f"{path} cannot be written"):
        tiny_trainer(callbacks=[PredictionWriter(path)]).predict(model, data)
    assert Path(path).read_text() == "of the run before"
    assert [file.name for file in Path().iterdir()] == [path]


@pytest.mark.parametrize("write", [True, False])
def test_lightning_does_not_keep_all_outputs_for_the_writer(write):
    data = tiny_data()
    trainer = tiny_trainer(callbacks=[PredictionWriter("p.csv")] if write else [])
    assert trainer.predict(tiny_model(data), data, return_predictions=False) is None
    assert not trainer.predict_loop.predictions


def predict_on_ranks(devices, path):
    L.seed_everything(3, verbose=False)
    data = tiny_data(num_classes=5, batch_size=4)
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(callbacks=[PredictionWriter(path)], **distributed)
    try:
        trainer.predict(tiny_model(data), data)
    except LongTailError as error:
        return str(error)
    return Path(path).read_text()


def test_two_ranks_write_what_one_writes_or_end_together(pool, tmp_path):
    expected = predict_on_ranks(1, f"{tmp_path}/one.csv")
    assert pool.run(predict_on_ranks, 2, f"{tmp_path}/two.csv") == [expected, expected]
    assert "label" in expected
    (tmp_path / "file").write_text("no folder")
    first, second = pool.run(predict_on_ranks, 2, f"{tmp_path}/file/p.csv")
    assert "cannot be written" in first
    assert first == second


@pytest.mark.parametrize(
    ("options", "message"), [({"path": "p.txt"}, ".csv or .parquet"), ({"top_k": 0}, "at least 1")]
)
def test_bad_options_are_named(options, message):
    with pytest.raises(LongTailError, match=message):
        PredictionWriter(**options)


def test_names_of_files_are_not_those_of_an_earlier_run():
    data = tiny_data()
    data.item_name = lambda index, split="test": f"{split} {index}"
    model, trainer = tiny_model(data), tiny_trainer(callbacks=[PredictionWriter("p.csv")])
    trainer.predict(model, data)
    assert "test 0" in Path("p.csv").read_text()
    images = TensorDataset(torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long))
    trainer.predict(model, DataLoader(images, batch_size=2))
    assert [line.split(",")[0] for line in Path("p.csv").read_text().splitlines()] == ["item", "0", "1", "2", "3"]
