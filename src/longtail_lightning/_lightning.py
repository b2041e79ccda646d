"""Every private name of Lightning, jsonargparse and torch that this package uses.

Each has a test in tests/test_lightning.py, which says so when a new release no longer has it.

Hooks of LightningCLI that are overridden: `_parse_ckpt_path` (cli/app.py), `_run_subcommand` (cli/components.py).
Hyper-parameters that it writes: `_class_path`, `_instantiator` (cli/_checkpoints.py).
"""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

SHARDED = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
"""Strategies under which a process holds parts of the weights."""
HYPER_PARAMETERS = L.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY


def from_command_line() -> bool:
    """Whether LightningCLI is building a module, whose hyper-parameters are the config then."""
    return _given_hyperparameters.get() is not None


def attached_trainer(module: L.LightningModule) -> Any:
    """The trainer that runs a module, or None."""
    return module._trainer


def is_compiled(module: Any) -> bool:
    """Whether `module.compile()` was called."""
    return module._compiled_call_impl is not None
