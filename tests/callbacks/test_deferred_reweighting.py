from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks import DeferredReweighting
from longtail_lightning.datasets.loader import ResumableLoader
from longtail_lightning.losses import CrossEntropyLoss
from longtail_lightning.samplers import InstanceBalancedSampler
from tests.samplers.training import SaveAt, stops

LABELS = [0] * 24 + [1] * 6 + [2] * 2


def _loss(weighting="none"):
    return CrossEntropyLoss([24, 6, 2], weighting=weighting)


class Model(L.LightningModule):
    """The user's own module: all it has is a `.loss`."""

    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.loss = loss
        self.used = []

    def training_step(self, batch, batch_idx):
        self.used.append((self.trainer.current_epoch, batch_idx, self.loss.weighting))
        return self.loss(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def _fit(callback, *, loss=None, extra=(), ckpt_path=None, max_epochs=4, **options):
    model = Model(loss if loss is not None else _loss())
    images = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(images, torch.tensor(LABELS))
    loader = ResumableLoader(data, batch_size=8, sampler=InstanceBalancedSampler(LABELS))
    options |= {"logger": False, "enable_checkpointing": False, "accelerator": "cpu", "devices": 1}
    options |= {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": max_epochs}
    L.Trainer(callbacks=[callback, *extra], **options).fit(model, loader, ckpt_path=ckpt_path)
    return model


@pytest.mark.parametrize(("start", "epoch"), [(2, 2), (0, 0), (9, 4), (0.5, 2), (0.8, 3), (0.0, 0), (1.0, 4)])
def test_the_weighting_changes_at_the_start(start, epoch):
    model = _fit(DeferredReweighting(start=start), loss=_loss("inverse_sqrt"))
    assert {e: w for e, _, w in model.used} == {
        e: "effective(0.9999)" if e >= epoch else "inverse_sqrt" for e in range(4)
    }
    assert model.loss.weighting == "inverse_sqrt", "the loss has its own value again"


@pytest.mark.parametrize("start", [1, 2, 3], ids=["before the stop", "after the next epoch", "later"])
@pytest.mark.parametrize("where", ["mid-epoch", "last batch", "epoch end"])
def test_stop_and_resume_equals_an_uninterrupted_run(start, where, tmp_path):
    # Stopped in epoch 1 or at the end of epoch 0: after, at and before the switch.
    step, hook = stops(4)[where]
    path = str(tmp_path / "stop.ckpt")
    whole = _fit(DeferredReweighting(start=start))
    first = _fit(DeferredReweighting(start=start), extra=[SaveAt(path, step, hook)], max_steps=step)
    second = _fit(DeferredReweighting(start=start), ckpt_path=path)
    assert first.used + second.used == whole.used
    assert torch.equal(second.layer.weight, whole.layer.weight)
    assert torch.equal(second.layer.bias, whole.layer.bias)


def test_the_loss_keeps_its_own_value_over_a_resume_with_a_switched_loss(tmp_path):
    path = str(tmp_path / "stop.ckpt")
    _fit(DeferredReweighting(start=1), extra=[SaveAt(path, 7, "on_train_batch_end")], max_steps=7)
    resumed = _fit(DeferredReweighting(start=1), loss=_loss("effective(0.9999)"), ckpt_path=path)
    assert resumed.loss.weighting == "none"


def test_one_callback_serves_two_fits():
    callback = DeferredReweighting(start=1, weighting="inverse_sqrt")
    assert _fit(callback).used == _fit(callback).used


@pytest.mark.parametrize("start", [-1, -0.5, 1.5])
def test_start_is_checked(start):
    with pytest.raises(LongTailError, match="an epoch \\(int, from 0\\) or a fraction"):
        DeferredReweighting(start=start)


def test_a_fraction_needs_max_epochs():
    with pytest.raises(LongTailError, match="no max_epochs"):
        _fit(DeferredReweighting(start=0.5), max_epochs=-1, max_steps=3)


def test_the_loss_needs_a_weighting():
    with pytest.raises(LongTailError, match=r"loss of Model \(CrossEntropyLoss\) does not have"):
        _fit(DeferredReweighting(), loss=nn.CrossEntropyLoss())
