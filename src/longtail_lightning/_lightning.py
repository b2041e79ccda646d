"""Every private name of Lightning, jsonargparse and torch that this package uses.

Each has a test in tests/test_lightning.py, which says so when a new release no longer has it.

Hooks of LightningCLI that are overridden: `_parse_ckpt_path` and `_run_subcommand` (cli/app.py).
Hyper-parameters that it writes: `_class_path`, `_instantiator` (cli/_checkpoints.py). Tests: tests/cli/test_hooks.py.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from subprocess import Popen
from typing import Any

import jsonargparse._util
import lightning as L
import lightning.pytorch.core.saving
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor

from longtail_lightning._errors import LongTailError

SHARDED = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
"""Strategies under which a process holds parts of the weights."""
INSTANTIATORS = ("lightning.pytorch.cli.instantiate_module", "pytorch_lightning.cli.instantiate_module")
"""What LightningCLI names in a checkpoint to build a module with. First releases of Lightning call any name."""
HYPER_PARAMETERS = L.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY


def from_command_line() -> bool:
    """Whether LightningCLI is building a module; then the module's hyper-parameters are the config."""
    return _given_hyperparameters.get() is not None


def attached_trainer(module: L.LightningModule) -> Any:
    """The trainer that runs a module, or None."""
    return module._trainer


def is_compiled(module: Any) -> bool:
    """Whether `module.compile()` was called."""
    return module._compiled_call_impl is not None


# -- torch.utils.data ----------------------------------------------------------------------------


def end_workers(loader: Any, batches: Any) -> None:
    """End the processes of a loader now.

    An error's traceback keeps the iterator alive. The garbage collector would later close the pipes to the workers
    at the same time as the threads that feed them.

    Args:
        loader: a `DataLoader` with workers.
        batches: its iterator.
    """
    batches._shutdown_workers()
    loader._iterator = None  # of persistent workers


def reason_of_death(batches: Any, *, wait: bool = False) -> str | None:
    """How a loading process died: the name of a signal, or an exit code; None when all of them are alive.

    Args:
        batches: the iterator of a `DataLoader`.
        wait: wait up to a second for a process that is about to end.
    """
    workers = getattr(batches, "_workers", ())
    for worker in workers:
        if wait:
            with suppress(RuntimeError):  # torch's signal handler may raise the same error right now
                worker.join(1 / len(workers))
        if worker.exitcode is not None:
            return str(signal.strsignal(-worker.exitcode)) if worker.exitcode < 0 else f"exit code {worker.exitcode}"
    return None


def signal_of_a_dead_worker(error: BaseException) -> str | None:
    """What killed a loading process, if torch's signal handler raised this error, which has no type of its own.

    Args:
        error: what was raised in the main process, at any place.
    """
    match = re.match(r"DataLoader worker \(pid.*?\) (?:is killed by signal: (\w+)|exited)", str(error))
    return None if match is None or not isinstance(error, RuntimeError) else match[1] or "it ended by itself"


# -- trainers and their loops --------------------------------------------------------------------


def training_batch(trainer: Any) -> int:
    """How many batches of this epoch have been given to the module, including the current one."""
    ready: int = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return ready


def trained_batches(trainer: Any) -> int:
    """How many batches of the running epoch have been trained on; 0 between epochs."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    # An exception interrupted a batch that is ready but not processed: it will be trained on again.
    done: int = progress.current.processed
    return 0 if progress.is_last_batch and done == progress.current.ready else done


def loaders(trainer: Any, split: str) -> list[Any]:
    """The loaders of a split of the running fit or validation, made if Lightning has not asked for them yet."""
    loop = _loop(trainer, split)
    # Lightning makes only the loaders that it uses.
    given = loop._data_source.dataloader() if loop._combined_loader is None else loop._combined_loader.iterables
    return list(given) if isinstance(given, (list, tuple)) and given else [given]


def has_loader(trainer: Any, split: str) -> bool:
    """Whether loaders of a split were given, before they are made."""
    return bool(_loop(trainer, split)._data_source.is_defined())


def data_source(trainer: Any) -> Any:
    """The data module or module that gives the loaders; trainer.datamodule may be left from an earlier fit."""
    return trainer.fit_loop._data_source.instance


def _loop(trainer: Any, split: str) -> Any:
    if split == "train":
        return trainer.fit_loop
    return trainer.validate_loop if trainer.state.fn == "validate" else trainer.fit_loop.epoch_loop.val_loop


def through_hooks(trainer: Any, pl_module: Any, batch: Any) -> Any:
    """A batch as the module gets it: converted, on its device, after the transfer hooks."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = pl_module._on_before_batch_transfer(batch)
    return pl_module._apply_batch_transfer_handler(batch)


def stop_progress(trainer: Any) -> None:
    """Stop Lightning's progress display, no longer needed: two live displays would overwrite each other."""
    stop = getattr(trainer.progress_bar_callback, "_stop_progress", None)
    if stop is not None:
        stop()


# -- jsonargparse ------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """Of no type that jsonargparse catches, to try another one of several types."""


@contextmanager
def checked_imports(check: Callable[[str], None]) -> Iterator[None]:
    """Call `check` with each import path that jsonargparse finds in a value, before it imports anything.

    Args:
        check: raises an error to refuse the path.
    """
    original = jsonargparse._util.import_object
    refused: list[LongTailError] = []

    def import_object(name: str, *arguments: Any, **options: Any) -> Any:
        from_code = False in arguments or options.get("check_path") is False  # a type annotation says it
        if isinstance(name, str) and "." in name and not from_code:
            try:
                check(name)
            except LongTailError as error:
                refused.append(error)
                raise _RefusedError from error
        return original(name, *arguments, **options)

    users = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("jsonargparse.") and vars(module).get("import_object") is original
    ]
    try:
        for module in users:
            vars(module)["import_object"] = import_object
        yield
    except Exception as error:
        if refused:
            raise refused[0] from error
        raise
    finally:
        for module in users:
            vars(module)["import_object"] = original


# -- checkpoints -----------------------------------------------------------------------------------


@contextmanager
def known_instantiators(starts: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Let `load_from_checkpoint` build modules and data modules only as LightningCLI does, on any release.

    Args:
        starts: settings that stand for those of the checkpoint, which may name files to open.
    """
    saving = lightning.pytorch.core.saving
    original = saving._load_state

    def _load_state(cls: Any, checkpoint: Any, *arguments: Any, **options: Any) -> Any:
        for value in checkpoint.values():  # settings stand under one of several keys
            require_known_instantiator(value)
        if isinstance(settings := checkpoint.get(HYPER_PARAMETERS), dict):
            settings.update({name: value for name, value in (starts or {}).items() if name in settings})
        return original(cls, checkpoint, *arguments, **options)

    saving._load_state = _load_state
    try:
        yield
    finally:
        saving._load_state = original


def require_known_instantiator(settings: Any) -> None:
    """Refuse settings of a module that name another function to build it with than LightningCLI's.

    Args:
        settings: what a checkpoint holds: a mapping, or pairs, which Lightning takes for one.
    """
    if isinstance(settings, Tensor):
        return
    try:
        named = dict(settings).get("_instantiator")
    except (TypeError, ValueError):
        return  # no settings
    if named is not None and not (isinstance(named, str) and named in INSTANTIATORS):
        raise LongTailError(
            f"The checkpoint asks to be built by {str(named)[:200]!r}, which is not what LightningCLI writes: it is "
            "damaged, or made to run code; give another file."
        )


def write_checkpoint_alone(trainer: Any, path: Any) -> None:
    """Write the checkpoint of this process without waiting for the others, which may be elsewhere in the run."""
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, path)


# -- several processes ---------------------------------------------------------------------------


def processes_started_by(trainer: Any) -> list[Popen[Any]]:
    """The processes that Lightning has started from this one for the same run."""
    return list(getattr(trainer.strategy.launcher, "procs", ()))


def on_death_of_a_child(end: Callable[[Sequence[Popen[Any]]], None]) -> None:
    """Replace what Lightning does when a process that it has started fails: it kills this one, without a word.

    Args:
        end: gets the processes, in a thread of its own.
    """
    _ChildProcessObserver._terminate_all = lambda self: end(self._child_processes)  # type: ignore[method-assign]
