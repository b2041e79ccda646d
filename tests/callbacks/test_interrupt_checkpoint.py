"""A stopped fit goes on in the middle of its epoch, as if it had not been stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from longtail_lightning import InterruptCheckpoint, WholeCheckpointIO
from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY, ltl
from tests.tiny import tiny_data, tiny_model, tiny_trainer

__all__ = ["ltl"]


class Signal(L.Callback):
    """Send this process a signal at a place of the fit."""

    def __init__(self, number, hook, count):
        self.number, self.hook, self.left = number, hook, count

    def tell(self, hook):
        if hook == self.hook:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, *args):
        self.tell("batch")

    def on_before_optimizer_step(self, *args):
        self.tell("step")

    def on_validation_batch_start(self, trainer, *args):
        if not trainer.sanity_checking:
            self.tell("validation")

    def on_sanity_check_start(self, *args):
        self.tell("sanity")


def fit(number=None, hook="batch", count=1, resume=None, **options):
    L.seed_everything(7, verbose=False)
    data = tiny_data()
    model = tiny_model(data)
    ours = InterruptCheckpoint()
    callbacks = [ModelCheckpoint("own", filename="epoch", enable_version_counter=False), ours]
    if number is not None:
        callbacks.append(Signal(number, hook, count))
    trainer = tiny_trainer(
        max_epochs=3, callbacks=callbacks, enable_checkpointing=True, plugins=[WholeCheckpointIO()], **options
    )
    if number is None:
        trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    else:
        with pytest.raises(SystemExit if number == signal.SIGINT else SIGTERMException):
            trainer.fit(model, data)
    return ours, trainer, model.state_dict()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        return fit()[2]


# 5 batches per epoch
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("hook", "count", "step"),
    [("batch", 2, 2), ("step", 7, 7), ("batch", 11, 11), ("validation", 1, None), ("step", 5, None)],
)
def test_it_goes_on_where_it_stopped(uninterrupted, number, hook, count, step):
    before = signal.getsignal(signal.SIGTERM)
    ours, trainer, _ = fit(number, hook, count)
    path = Path("own/last.ckpt") if step is not None else Path("own/epoch.ckpt")
    saved = torch.load(path, weights_only=True)
    # In a validation, and after the last batch, the epoch is ended first, and saved as ever.
    assert saved["global_step"] == trainer.global_step == (5 if step is None else step)
    assert ours.saved == (None if step is None else path.resolve())
    _, _, resumed = fit(resume=path)
    assert all(torch.equal(resumed[name], value) for name, value in uninterrupted.items())
    assert signal.getsignal(signal.SIGTERM) is before
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_gradients_that_are_gathered_are_not_lost():
    _, _, expected = fit(accumulate_grad_batches=2)
    _, trainer, _ = fit(signal.SIGTERM, "batch", 1, accumulate_grad_batches=2)
    assert trainer.global_step == 1
    assert trainer.fit_loop.epoch_loop.batch_idx == 1
    _, _, resumed = fit(resume="own/last.ckpt", accumulate_grad_batches=2)
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_the_second_signal_stops_at_once():
    class Twice(Signal):
        def on_train_batch_start(self, *args):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    trainer = tiny_trainer(callbacks=[InterruptCheckpoint(), Twice(0, "", 0)], enable_checkpointing=True)
    data = tiny_data()
    with pytest.raises(SystemExit):
        trainer.fit(tiny_model(data), data)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert not list(Path().rglob("*.ckpt"))


def test_before_the_first_batch_nothing_is_saved():
    ours, _, _ = fit(signal.SIGTERM, "sanity")
    assert ours.saved is None
    assert not Path("own/last.ckpt").exists()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_tells_how_to_go_on(ltl, monkeypatch, number, status):
    from longtail_lightning.cli import app

    made = app.LongTailCLI.instantiate_trainer

    def with_signal(self, **options):
        trainer = made(self, **options)
        trainer.callbacks.insert(0, Signal(number, "batch", 7))
        return trainer

    monkeypatch.setattr(app.LongTailCLI, "instantiate_trainer", with_signal)
    fit = ["fit", *MODEL, *TINY, "--trainer.max_epochs=3"]
    ended, out, err = ltl(*fit)
    assert ended == status
    assert "Traceback" not in err
    assert "Stopping after this batch or validation; once more to stop at once." in err
    (line,) = [line for line in out.splitlines() if line.startswith("go on")]
    monkeypatch.setattr(app.LongTailCLI, "instantiate_trainer", made)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert ltl(*line.removeprefix("go on").split()[1:])[0] == 0
    assert main(fit) == 0
    resumed, whole = (
        (torch.load(f"runs/run/version_{n}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for n in (1, 2))
        if Path("runs/run/version_2").exists()
        else (
            torch.load(path, weights_only=True)["state_dict"]
            for path in (
                next(Path("runs/config_fit").rglob("last.ckpt")),
                Path("runs/run/version_1/checkpoints/last.ckpt"),
            )
        )
    )
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
