from __future__ import annotations

import math

import lightning as L
import pytest
import torch
from torch import nn

from longtail_lightning import NonFiniteLossGuard
from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks.non_finite_loss import _advice
from tests.tiny import tiny_data, tiny_model, tiny_trainer


class BreaksLater(nn.Module):
    """A fine loss until its fourth training batch."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, logits, target):
        self.calls += self.training
        return logits.square().mean() * (math.inf if self.calls >= 4 else 1.0)


def test_names_the_first_bad_batch():
    data = tiny_data()
    with pytest.raises(LongTailError, match="since batch 3 of epoch 0"):
        tiny_trainer(num_sanity_val_steps=0).fit(tiny_model(data, loss=BreaksLater()), data)


def test_images_that_are_broken_themselves_are_told(monkeypatch):
    data = tiny_data()
    monkeypatch.setattr(type(data), "augment_batch", lambda self, images, keys: images.float() * math.nan)
    with pytest.raises(LongTailError, match="8 images of the batch hold NaN"):
        tiny_trainer(num_sanity_val_steps=0).fit(tiny_model(data), data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "16-mixed"}, "bf16-mixed"),
        ({}, "gradient_clip_val"),
        ({"gradient_clip_val": 1.0}, "lengthen the warm-up"),
    ],
)
def test_advice_fits_the_settings(options, words):
    trainer = tiny_trainer(**{k: v for k, v in options.items() if k != "precision"})
    if "precision" in options:
        trainer = type("Trainer", (), {"precision": "16-mixed", "gradient_clip_val": None})()
    assert words in _advice(trainer, [torch.zeros(2, 3)])


@pytest.mark.parametrize("output", [None, {"logits": torch.zeros(1)}])
def test_a_step_without_a_loss_is_none_of_its_business(output):
    guard, trainer = NonFiniteLossGuard(), tiny_trainer()
    model = tiny_model(tiny_data())
    guard.on_train_epoch_start(trainer, model)
    guard.on_train_batch_end(trainer, model, output, None, 0)
    assert int(guard._first_bad) == -1


def test_works_on_any_module():
    class Other(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return {"loss": self.layer(batch[0]).mean() / 0.0}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.25)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)), batch_size=2)
    with pytest.raises(LongTailError, match=r"learning rate 0\.25"):
        tiny_trainer(callbacks=[NonFiniteLossGuard()]).fit(Other(), loader)
