"""Where a callback finds the class counts."""

from __future__ import annotations

import lightning as L

from longtail_lightning.counts import ClassCounts


def class_counts_of(trainer: L.Trainer, pl_module: L.LightningModule) -> ClassCounts | None:
    """Those of the module, or of the data module; None when neither has any."""
    for source in (pl_module, getattr(trainer, "datamodule", None)):
        if (counts := getattr(source, "class_counts", None)) is not None:
            return ClassCounts(counts)
    return None
