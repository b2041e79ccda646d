"""Every private name of Lightning and jsonargparse that this package uses; a test tells which one is gone."""

from __future__ import annotations

from typing import Any

import lightning as L


def source_of_fit(trainer: L.Trainer) -> Any:
    """What gives a fit its loaders: a data module, or the module that was fitted with loaders.

    `trainer.datamodule` may still be that of a fit before.
    """
    return trainer.fit_loop._data_source.instance
