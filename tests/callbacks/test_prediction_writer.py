from __future__ import annotations

import csv
from pathlib import Path

import pandas
import pytest
import torch

from longtail_lightning import PredictionWriter
from longtail_lightning._errors import LongTailError
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


@pytest.mark.parametrize(
    ("options", "message"), [({"path": "p.txt"}, ".csv or .parquet"), ({"top_k": 0}, "at least 1")]
)
def test_bad_options_are_named(options, message):
    with pytest.raises(LongTailError, match=message):
        PredictionWriter(**options)
