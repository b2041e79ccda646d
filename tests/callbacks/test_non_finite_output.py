from __future__ import annotations

import math
from pathlib import Path

import lightning as L
import pytest
import torch

from longtail_lightning import LongTailReport, NonFiniteOutputGuard, PredictionWriter
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_data, tiny_model, tiny_trainer


@pytest.mark.filterwarnings("ignore:.*not finite", "ignore:.*NaN")
@pytest.mark.parametrize("evaluate", ["validate", "test", "predict"])
def test_an_evaluation_ends_with_an_error_and_its_files(evaluate, capsys):
    data = tiny_data()
    model = tiny_model(data)
    torch.nn.init.constant_(model.head.bias, math.nan)
    trainer = tiny_trainer(callbacks=[LongTailReport(), PredictionWriter("p.csv"), NonFiniteOutputGuard()])
    with pytest.raises(LongTailError, match=r"^The model's output is not finite for (\d+) of \1 images of the "):
        getattr(trainer, evaluate)(model, data)
    if evaluate == "predict":
        assert Path("p.csv").read_text().count("\n") > 1
    else:
        assert "all" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*not finite", "ignore:.*NaN")
def test_a_fit_ends_after_its_validation():
    data = tiny_data()
    model = tiny_model(data)
    torch.nn.init.constant_(model.head.bias, math.nan)
    trainer = tiny_trainer(callbacks=[NonFiniteOutputGuard()], num_sanity_val_steps=1)
    with pytest.raises(LongTailError, match="of the validation split"):
        trainer.fit(model, data)
    assert trainer.global_step == 0


def test_finite_outputs_pass():
    data = tiny_data()
    trainer = tiny_trainer(callbacks=[NonFiniteOutputGuard()])
    trainer.test(tiny_model(data), data, verbose=False)
    trainer.validate(tiny_model(data), data, verbose=False)


def guarded_on_ranks(devices):
    L.seed_everything(3, verbose=False)
    data = tiny_data(num_classes=5, batch_size=4)
    model = tiny_model(data)
    torch.nn.init.constant_(model.head.bias, math.nan)
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    try:
        tiny_trainer(callbacks=[NonFiniteOutputGuard()], **distributed).predict(model, data)
    except LongTailError as error:
        return str(error)
    return None


def test_two_ranks_count_together(pool):
    expected = guarded_on_ranks(1)
    assert "not finite for 15 of 15 images" in expected
    assert pool.run(guarded_on_ranks, 2) == [expected, expected]
