"""The private names of Lightning and torch that this package rests on are still there, and still mean the same."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import nn
from torch.utils.data import DataLoader

from longtail_lightning import BaseClassifier, LongTailError, _lightning
from tests.callbacks.test_classifier_retraining import Own, loaders
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def test_from_command_line_is_true_while_a_config_is_the_hyper_parameters():
    from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

    assert not _lightning.from_command_line()
    with _given_hyperparameters_context({"a": 1}, "some.instantiator"):
        assert _lightning.from_command_line()


def test_a_module_knows_the_trainer_that_runs_it():
    seen = []

    class Watch(L.Callback):
        def on_fit_start(self, trainer, pl_module):
            seen.append(_lightning.attached_trainer(pl_module) is trainer)

    data = tiny_data()
    model = tiny_model(data)
    assert _lightning.attached_trainer(model) is None
    tiny_trainer(fast_dev_run=True, callbacks=[Watch()]).fit(model, data)
    assert seen == [True]


def test_hyper_parameters_are_where_they_are_looked_for():
    data = tiny_data()
    model = BaseClassifier(data.class_counts, backbone="cifar_resnet20")
    trainer = tiny_trainer()
    trainer.strategy.connect(model)
    assert _lightning.HYPER_PARAMETERS in trainer._checkpoint_connector.dump_checkpoint(weights_only=True)


def test_a_compiled_module_is_known():
    module = nn.Linear(2, 2)
    assert not _lightning.is_compiled(module)
    module.compile(backend="eager")
    assert _lightning.is_compiled(module)


def test_the_source_of_a_fit_is_the_data_module_or_the_module_itself():
    data, trainer = tiny_data(num_classes=3), tiny_trainer(max_epochs=0)
    trainer.fit(tiny_model(data), data)
    assert _lightning.data_source(trainer) is data, (
        "fit_loop._data_source.instance is no longer the data module of a fit"
    )
    trainer.fit(Own(), *loaders())
    assert _lightning.data_source(trainer) is not data, (
        "of a fit with loaders, _data_source.instance is that of the fit before"
    )
    assert trainer.datamodule is data, "trainer.datamodule tells by itself now: data_source can go"


FLOATS = DataLoader([(torch.zeros(3, 32, 32), 0), (torch.ones(3, 32, 32), 1)], batch_size=2)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("end", "reason"), [(killed, "Killed"), (partial(os._exit, 3), "exit code 3")])
def test_how_a_loading_process_died_is_known(end, reason):
    batches = iter(DataLoader(range(3), num_workers=1))
    assert [worker.exitcode for worker in batches._workers] == [None], "processes with an exit code"
    process = get_context("fork").Process(target=end)
    process.start()
    # Not a worker of torch, whose signal handler would raise at any place of this test.
    assert _lightning.reason_of_death(SimpleNamespace(_workers=[process]), wait=True) == reason


def test_what_the_signal_handler_of_torch_raises_is_recognized():
    died = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert _lightning.signal_of_a_dead_worker(died) == "Killed"
    assert _lightning.signal_of_a_dead_worker(RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"))
    assert _lightning.signal_of_a_dead_worker(RuntimeError("something else")) is None


def test_processes_can_be_ended():
    loader = DataLoader(range(8), num_workers=2, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    workers = batches._workers
    _lightning.end_workers(loader, batches)
    assert not any(worker.is_alive() for worker in workers)
    assert loader._iterator is None


@pytest.mark.parametrize("num_workers", [0, 1])
def test_as_long_as_they_live_nobody_has_died(num_workers):
    batches = iter(DataLoader(range(3), num_workers=num_workers))
    assert _lightning.reason_of_death(batches) is None


def test_how_far_an_epoch_is():
    seen = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((_lightning.training_batch(trainer), _lightning.trained_batches(trainer)))

    data = tiny_data()
    trainer = tiny_trainer(max_epochs=2, callbacks=[Watch()])
    trainer.fit(tiny_model(data), data)
    assert seen == [(step + 1, step) for step in range(5)] * 2
    assert _lightning.trained_batches(trainer) == 0, "between epochs"


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
def test_where_loaders_come_from():
    data = tiny_data()
    trainer = tiny_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(tiny_model(data), data)
    assert _lightning.data_source(trainer) is data
    (train,), (val,) = _lightning.loaders(trainer, "train"), _lightning.loaders(trainer, "val")
    assert train is trainer.train_dataloader
    assert len(val.dataset) == 18, "made although Lightning has not asked for it"
    assert _lightning.has_loader(trainer, "val")
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(tiny_model(data), train_dataloaders=FLOATS)
    assert _lightning.has_loader(trainer, "train")
    assert not _lightning.has_loader(trainer, "val")


def test_a_batch_goes_through_the_hooks_of_the_module():
    seen = []

    class Hooked(L.LightningModule):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            return batch + 1

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch * 10

        def test_step(self, batch, batch_idx):
            seen.append((batch, _lightning.through_hooks(self.trainer, self, torch.ones(2))))

    tiny_trainer(precision="64-true").test(Hooked(), DataLoader(torch.ones(2), batch_size=2), verbose=False)
    ((given, batch),) = seen
    assert batch.tolist() == given.tolist() == [20, 20]
    assert batch.dtype == given.dtype == torch.float64


def test_a_progress_display_is_ended():
    bar = RichProgressBar()
    trainer = tiny_trainer(enable_progress_bar=True, callbacks=[bar])
    ended = []
    bar._stop_progress = lambda: ended.append(True)
    _lightning.stop_progress(trainer)
    assert ended == [True]
    assert callable(RichProgressBar._stop_progress), "Lightning calls it otherwise now"
    _lightning.stop_progress(tiny_trainer())


def test_the_batches_of_a_loader_can_be_replaced():
    assert isinstance(DataLoader._index_sampler, property), "ResumableLoader replaces it"


def test_the_death_of_a_process_that_lightning_has_started(monkeypatch):
    observer = _lightning._ChildProcessObserver
    monkeypatch.setattr(observer, "_terminate_all", observer._terminate_all)
    told = []
    _lightning.on_death_of_a_child(told.append)
    process = Popen([sys.executable, "-c", "raise SystemExit(3)"])
    watching = observer(main_pid=os.getpid(), child_processes=[process], sleep_period=0)
    watching.start()
    watching.join(30)
    assert told == [[process]], "Lightning now kills this process, without a word, in another way"


def test_processes_that_lightning_has_started():
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1)
    assert launcher.procs == [], "their list has another name now"
    launcher.procs.append("process")
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))
    assert _lightning.processes_started_by(trainer) == ["process"]
    assert _lightning.processes_started_by(tiny_trainer()) == []


def test_imports_of_jsonargparse_are_checked_before_they_happen(tmp_path, monkeypatch):
    from jsonargparse import ArgumentParser

    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def refuse(path):
        asked.append(path)
        if path.startswith("evil"):
            raise LongTailError(f"{path} is refused")

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--module", type=torch.nn.Module)
    parser.add_argument("--function", type=Callable)
    asked = []
    with _lightning.checked_imports(refuse):
        assert parser.parse_args(["--module=torch.nn.Identity"]).module.class_path == "torch.nn.Identity"
        assert asked[-1] == "torch.nn.Identity"
    for word in ("--module=evil.Net", "--function=evil.function"):
        with pytest.raises(LongTailError, match=r"evil\.\w+ is refused"), _lightning.checked_imports(refuse):
            parser.parse_args([word])
    assert not Path("ran").exists()
    before = len(asked)
    parser.parse_args(["--module=torch.nn.Identity"])
    assert len(asked) == before, "as before, outside"


def test_a_checkpoint_can_be_written_without_the_others(tmp_path):
    data = tiny_data()
    trainer, model = tiny_trainer(max_epochs=1), tiny_model(data)
    trainer.fit(model, data)
    _lightning.write_checkpoint_alone(trainer, tmp_path / "alone.ckpt")
    trainer.save_checkpoint(tmp_path / "together.ckpt")
    alone, together = (torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("alone", "together"))
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone["state_dict"][key], value) for key, value in together["state_dict"].items())
