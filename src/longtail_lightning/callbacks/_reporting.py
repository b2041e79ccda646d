"""What callbacks that end a run with a report share."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from longtail_lightning.report import Comparison


class ReportingCallback(L.Callback):
    """Prints comparisons when a run is over, and knows which files it wrote."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        """What a file is -> its path."""
        self._comparisons: list[Comparison] = []

    def print_later(self, comparison: Comparison) -> None:
        """Print it once the progress bar is gone: the bar would be drawn over the table."""
        self._comparisons.append(comparison)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for comparison in self._comparisons:
            comparison.print()
        self._comparisons = []


def log_folder(trainer: L.Trainer) -> Path | None:
    """Where the files of a run go; None when nothing is written. All processes must ask: it is a broadcast."""
    folder = trainer.log_dir
    if folder is None or trainer.logger is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    return Path(folder)
