from __future__ import annotations

from functools import partial

import lightning as L
import pytest
import torch

from longtail_lightning import WarmupMultiStep
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def optimizer(*rates):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=rates[0])


def ldam(epoch, base):
    """The authors' rule, whose epochs count from 1."""
    number = epoch + 1
    if number <= 5:
        return base * number / 5
    if number > 180:
        return base * 0.0001
    if number > 160:
        return base * 0.01
    return base


def test_every_epoch_of_the_paper():
    sgd = optimizer(0.1, 0.5)
    schedule = WarmupMultiStep(sgd)
    for epoch in range(200):
        rates = [group["lr"] for group in sgd.param_groups]
        assert rates == pytest.approx([ldam(epoch, 0.1), ldam(epoch, 0.5)], rel=1e-12)
        sgd.step()
        schedule.step()


def test_goes_on_where_it_stopped():
    sgd = optimizer(0.1)
    schedule = WarmupMultiStep(sgd, milestones=[3], warmup_epochs=2)
    sgd.step(), schedule.step(), sgd.step(), schedule.step()
    again = optimizer(0.1)
    resumed = WarmupMultiStep(again, milestones=[3], warmup_epochs=2)
    resumed.load_state_dict(schedule.state_dict())
    sgd.step(), schedule.step(), again.step(), resumed.step()
    assert resumed.get_last_lr() == schedule.get_last_lr() == pytest.approx([0.001])


def test_no_warm_up():
    assert optimizer_rate(warmup_epochs=0) == 0.1
    assert optimizer_rate(warmup_epochs=4) == pytest.approx(0.025)


def optimizer_rate(**options):
    return WarmupMultiStep(optimizer(0.1), **options).get_last_lr()[0]


class Rates(L.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_is_stepped_per_epoch_and_survives_a_resume():
    def run(epochs, ckpt_path=None):
        data, seen = tiny_data(), Rates()
        schedule = partial(WarmupMultiStep, milestones=[2, 3], warmup_epochs=2)
        trainer = tiny_trainer(max_epochs=epochs, callbacks=[seen])
        trainer.fit(tiny_model(data, lr_scheduler=schedule), data, ckpt_path=ckpt_path, weights_only=True)
        trainer.save_checkpoint("schedule.ckpt")
        return seen.rates

    whole = [rate for rate in (0.05, 0.1, 0.001, 0.00001) for _ in range(5)]
    assert run(4) == pytest.approx(whole)
    assert run(1) == pytest.approx(whole[:5])
    assert run(4, "schedule.ckpt") == pytest.approx(whole[5:])


@pytest.mark.parametrize("options", [{"milestones": [180, 160]}, {"warmup_epochs": -1}])
def test_wrong_arguments_are_named(options):
    with pytest.raises(LongTailError, match="must be epochs in rising order"):
        WarmupMultiStep(optimizer(0.1), **options)
