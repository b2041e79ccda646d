"""Where a callback finds the class counts."""

from __future__ import annotations

from typing import Any

import lightning as L

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import data_source
from longtail_lightning.counts import ClassCounts, ShotSplits

_BOUNDS: dict[str, Any] = {"many": 100, "few": 20, "convention": "kang"}


def class_counts_of(trainer: L.Trainer, pl_module: L.LightningModule) -> ClassCounts | None:
    """Class counts of the module, or else of its data module; None when neither has any."""
    for source in (pl_module, datamodule_of(trainer)):
        if (counts := getattr(source, "class_counts", None)) is not None:
            return ClassCounts(counts)
    return None


def datamodule_of(trainer: L.Trainer) -> Any:
    """The data module of the trainer; None when it is left from an earlier fit and this fit uses loaders."""
    datamodule = getattr(trainer, "datamodule", None)
    stale = trainer.state.fn == "fit" and data_source(trainer) is not datamodule
    return None if stale else datamodule


def shot_splits_of(callback: Any, pl_module: L.LightningModule, counts: ClassCounts) -> ShotSplits:
    """Which classes are many-, medium- and few-shot, by the bounds of a callback or module."""
    return counts.shots(**bounds_of(callback, pl_module))


def bounds_of(callback: Any, pl_module: L.LightningModule) -> dict[str, Any]:
    """`many`, `few` and `convention` of a callback, or else of its module."""
    set_here = {name: getattr(callback, name, None) for name in _BOUNDS}
    bounds = {
        name: getattr(pl_module, name, _BOUNDS[name]) if value is None else value for name, value in set_here.items()
    }
    if bounds["few"] > bounds["many"]:
        raise LongTailError(
            f"{type(callback).__name__} got few={bounds['few']} above many={bounds['many']}: few-shot classes "
            "have fewer images; set both, such as many=100, few=20."
        )
    return bounds
