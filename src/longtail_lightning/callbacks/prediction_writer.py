"""Write predictions to a CSV or Parquet file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from longtail_lightning._errors import LongTailError


class PredictionWriter(BasePredictionWriter):
    """Write one row per image: its name, the predicted class, its probability and the top classes.

    Works on any module whose `predict_step` returns class probabilities. Under DDP each process
    keeps its rows and the first one writes them all, in the order of the data set.

    Args:
        path: `.csv` or `.parquet` (needs `pandas` and `pyarrow`).
        top_k: how many classes the `top_*` columns hold.

    Examples:
        >>> trainer = L.Trainer(callbacks=[PredictionWriter("predictions.csv")], logger=False)
    """

    def __init__(self, path: str = "predictions.csv", top_k: int = 5) -> None:
        super().__init__(write_interval="batch_and_epoch")
        if Path(path).suffix not in (".csv", ".parquet"):
            raise LongTailError(f"Predictions are written as .csv or .parquet, got {path!r}.")
        if top_k < 1:
            raise LongTailError(f"top_k={top_k} must be at least 1.")
        if Path(path).suffix == ".parquet":
            _import_pandas()
        self.path = path
        self.top_k = top_k
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._rows = []

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if batch_indices is None or dataloader_idx:
            raise LongTailError("PredictionWriter needs a single predict loader with indices: a map-style data set.")
        probabilities = prediction["logits"].softmax(1)
        top = probabilities.topk(min(self.top_k, probabilities.shape[1]), dim=1)
        self._rows.append((torch.as_tensor(batch_indices), top.indices.cpu(), top.values.cpu()))

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        parts = [self._rows]
        if trainer.world_size > 1:
            parts = [[] for _ in range(trainer.world_size)]
            dist.all_gather_object(parts, self._rows)
        rows = [row for part in parts for row in part]
        if trainer.is_global_zero and rows:
            index, classes, probabilities = (torch.cat(column) for column in zip(*rows))
            order = index.argsort()
            self._write(trainer, index[order], classes[order], probabilities[order])

    def _write(self, trainer: L.Trainer, index: Tensor, classes: Tensor, probabilities: Tensor) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        names = getattr(datamodule, "class_names", None)
        item_name = getattr(datamodule, "item_name", str)
        ranks = range(1, classes.shape[1] + 1)
        header = ["item", "predicted", "probability"]
        header += [f"{column}_{rank}" for rank in ranks for column in ("top", "probability")]
        table = []
        for i, row_classes, row_probabilities in zip(index.tolist(), classes.tolist(), probabilities.tolist()):
            labels = [names[c] if names else str(c) for c in row_classes]
            pairs = [value for pair in zip(labels, (round(p, 6) for p in row_probabilities)) for value in pair]
            table.append([item_name(i), labels[0], round(row_probabilities[0], 6), *pairs])
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        if Path(self.path).suffix == ".parquet":
            _import_pandas().DataFrame(table, columns=header).to_parquet(self.path, index=False)
            return
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *table])


def _import_pandas() -> Any:
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise LongTailError(
            "Parquet needs pandas and pyarrow: pip install 'longtail-lightning[parquet]', or write a .csv."
        ) from error
    return pandas
