"""Stop and resume equals an uninterrupted run, bit by bit."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, EMAWeightAveraging, ModelCheckpoint

from longtail_lightning import ClassBalancedSampler, CosineHead, LogitAdjustedLoss, TimmBackbone
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_data, tiny_model, tiny_trainer


class Stop(L.Callback):
    """Save and stop after so many steps, as a kill between two batches would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint("stopped.ckpt")
            raise KeyboardInterrupt


def run(options: dict[str, Any], stop: int | None = None, resume: bool = False) -> dict[str, torch.Tensor]:
    L.seed_everything(7, verbose=False)
    data = tiny_data(**options.get("data", {}))
    model = tiny_model(data, loss=LogitAdjustedLoss(), **options.get("model", {}))
    callbacks = [callback() for callback in options.get("callbacks", [])]
    trainer = tiny_trainer(
        max_epochs=3, callbacks=[*callbacks, *([Stop(stop)] if stop else [])], **options.get("trainer", {})
    )
    if resume:
        torch.rand(5)  # a new process does not continue the old one's random numbers
    if stop:
        with pytest.raises(SystemExit):
            trainer.fit(model, data)
    else:
        trainer.fit(model, data, ckpt_path="stopped.ckpt" if resume else None, weights_only=True)
    return {name: value.clone() for name, value in model.state_dict().items()}


CASES = {
    "plain": {},
    "class-balanced with mixup": {"data": {"sampler": ClassBalancedSampler, "mixup_alpha": 0.5}},
    "workers": {"data": {"num_workers": 2}},
    "accumulation": {"trainer": {"accumulate_grad_batches": 2}},
    "moving average": {"callbacks": [lambda: EMAWeightAveraging(decay=0.9)]},
    "bf16": {"trainer": {"precision": "bf16-mixed"}},
    "stochastic depth": {"model": {"backbone": None}},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("stop", [2, 5, 8])  # 5 batches per epoch: in the first epoch, at its end, in the second
def test_resume_equals_uninterrupted(name, stop):
    options = dict(CASES[name])
    if name == "stochastic depth":
        options["model"] = {"backbone": TimmBackbone("resnet10t", drop_path_rate=0.5)}
        options["data"] = {"num_classes": 6, "max_count": 12}
        initial = {k: v.clone() for k, v in options["model"]["backbone"].state_dict().items()}
    else:
        initial = None

    def again(**kwargs):
        if initial is not None:
            options["model"]["backbone"].load_state_dict(initial)
        return run(options, **kwargs)

    expected = again()
    if name == "accumulation":
        stop = max(1, stop // 2)
    again(stop=stop)
    resumed = again(resume=True)
    for key, value in expected.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)


class Fail(L.Callback):
    """Raises at a batch before it is trained on; saves as Lightning's `OnExceptionCheckpoint` does."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    def on_train_batch_start(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("stop")

    def on_exception(self, trainer: L.Trainer, *args: Any) -> None:
        trainer.save_checkpoint("failed.ckpt")


@pytest.mark.parametrize("schedule", [None, partial(torch.optim.lr_scheduler.StepLR, step_size=1)])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [2, 5, 8])  # the fifth is the last of the first epoch
def test_the_batch_that_an_exception_interrupted_is_due_again(batch, workers, schedule):
    def fit(fail=None, ckpt_path=None):
        L.seed_everything(7, verbose=False)
        data = tiny_data(num_workers=workers, mixup_alpha=0.5, cutmix_alpha=0.5)
        model = tiny_model(data, **({} if schedule is None else {"lr_scheduler": schedule}))
        trainer = tiny_trainer(callbacks=[] if fail is None else [Fail(fail)])
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
        return model.state_dict()

    expected = fit()
    with pytest.raises(RuntimeError, match="stop"):
        fit(fail=batch)
    resumed = fit(ckpt_path="failed.ckpt")
    for key, value in expected.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)


def test_a_frozen_learned_scale_does_not_disturb_a_resume():
    data = tiny_data()

    def model():
        made = tiny_model(data, head=CosineHead)
        made.head.weight.requires_grad_(False)
        return made

    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model(), data)
    trainer.save_checkpoint("frozen.ckpt")
    resumed = model()
    head = resumed.head
    tiny_trainer(max_epochs=2).fit(resumed, data, ckpt_path="frozen.ckpt", weights_only=True)
    assert resumed.head is head


class Finetuning(BackboneFinetuning):
    def __init__(self):
        super().__init__(unfreeze_backbone_at_epoch=1, verbose=False)


# Lightning looks for batch norms that are frozen already.
@pytest.mark.filterwarnings("ignore:The provided params to be frozen")
def test_an_unfrozen_backbone_stays_unfrozen():
    # Lightning freezes it again on resume (issue 21901 there).
    def fit(epochs, ckpt_path=None):
        L.seed_everything(7, verbose=False)
        data = tiny_data()
        schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=10)
        model = tiny_model(data, lr_scheduler=schedule)
        trainer = tiny_trainer(max_epochs=epochs, callbacks=[Finetuning()])
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
        return trainer, model

    _, expected = fit(4)
    trainer, _ = fit(2)
    trainer.save_checkpoint("unfrozen.ckpt")
    _, resumed = fit(4, "unfrozen.ckpt")
    assert all(p.requires_grad for p in resumed.backbone.parameters() if p.ndim == 4)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=0, atol=0, msg=key)


def test_another_batch_size_in_the_middle_of_an_epoch_is_refused():
    run({}, stop=2)
    data = tiny_data(batch_size=4)
    with pytest.raises(LongTailError, match="in the middle of an epoch of 8 images per step, this run has 4"):
        tiny_trainer().fit(tiny_model(data), data, ckpt_path="stopped.ckpt", weights_only=True)


def test_resume_from_the_checkpoint_of_the_last_epoch():
    def fit(epochs, ckpt_path=None):
        L.seed_everything(7, verbose=False)
        data = tiny_data()
        model = tiny_model(data)
        checkpoint = ModelCheckpoint(dirpath="saved", save_last=True, monitor="val/acc", mode="max")
        # The schedule must know the whole run; the first part ends early.
        trainer = tiny_trainer(max_epochs=3, callbacks=[checkpoint], enable_checkpointing=True)
        if epochs < 3:
            trainer.callbacks.append(StopAfter(epochs))
        trainer.fit(model, data, ckpt_path=ckpt_path)
        return model.state_dict(), trainer.callback_metrics

    expected, metrics = fit(3)
    fit(2)
    resumed, resumed_metrics = fit(3, "saved/last.ckpt")
    for key, value in expected.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)
    assert resumed_metrics["val/acc"] == metrics["val/acc"]


class StopAfter(L.Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_a_run_does_not_go_on_with_other_classes():
    data, more = tiny_data(), tiny_data(num_classes=7)
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint("six.ckpt")
    with pytest.raises(LongTailError, match="a run on 6 classes and the data have 7"):
        tiny_trainer(max_epochs=2).fit(tiny_model(more), more, ckpt_path="six.ckpt")
