"""Write predictions to a CSV or Parquet file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from longtail_lightning._distributed import on_rank_zero
from longtail_lightning._errors import LongTailError
from longtail_lightning._files import replace_file, write_text
from longtail_lightning._lightning import data_source
from longtail_lightning.callbacks._counts import datamodule_of
from longtail_lightning.callbacks._outputs import outputs_of


class PredictionWriter(BasePredictionWriter):
    """Write one row per image: its name, the predicted class, its probability and the top classes.

    Works on any module whose `predict_step` returns `{"logits": logits}`. With `"target"` beside them there is a
    column `label`, the true class; with `"index"`, the place of each image in its split, any loader will do.
    Under DDP each process keeps its rows and the first one writes them all, in the order of the data set.
    An image for which the model's output is not finite has no class: its columns after `label` are empty, and a
    warning tells how many there are.

    Args:
        path: `.csv` or `.parquet` (needs `pandas` and `pyarrow`).
        top_k: how many classes the `top_*` columns hold.

    Examples:
        >>> trainer = L.Trainer(callbacks=[PredictionWriter("predictions.csv")], logger=False)
    """

    def __init__(self, path: str = "predictions.csv", top_k: int = 5) -> None:
        super().__init__(write_interval="batch")  # Lightning keeps all outputs for any other
        if Path(path).suffix not in (".csv", ".parquet"):
            raise LongTailError(f"Predictions are written as .csv or .parquet, got {path!r}.")
        if top_k < 1:
            raise LongTailError(f"top_k={top_k} must be at least 1.")
        if Path(path).suffix == ".parquet":
            _import_pandas()
        self.path = path
        self.top_k = top_k
        self._rows: list[tuple[Tensor, ...]] = []

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
        outputs = outputs_of(prediction, pl_module, "predict_step")
        logits, index = outputs["logits"], outputs.get("index", batch_indices)
        if index is None or len(index) != len(logits) or dataloader_idx:
            raise LongTailError(
                "PredictionWriter needs one predict loader that tells which images it gives: use a map-style data set, "
                f"or let predict_step of {type(pl_module).__name__} return their places as 'index' too."
            )
        probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
        top = probabilities.topk(min(self.top_k, probabilities.shape[1]), dim=1)
        target = outputs.get("target")
        if target is None or target.ndim != 1 or target.is_floating_point():  # several labels per image, or mixed ones
            target = torch.full((len(logits),), -1)
        row = (torch.as_tensor(index), top.indices, top.values, target)
        self._rows.append(tuple(column.cpu() for column in row))

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        parts = [self._rows]
        if trainer.world_size > 1:
            parts = [[] for _ in range(trainer.world_size)]
            dist.all_gather_object(parts, self._rows)
        if rows := [row for part in parts for row in part]:
            on_rank_zero(lambda: self._write(trainer, pl_module, rows))

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule, rows: list[tuple[Tensor, ...]]) -> None:
        index, *columns = (torch.cat(column) for column in zip(*rows))
        order = index.argsort(stable=True)
        classes, probabilities, target = (column[order] for column in columns)
        datamodule = datamodule_of(trainer)
        names = getattr(pl_module, "class_names", None) or getattr(datamodule, "class_names", None)
        # The data module may be that of an earlier run, and a loader have been passed to this one.
        own = datamodule is not None and data_source(trainer) is datamodule
        item_name = datamodule.item_name if own and hasattr(datamodule, "item_name") else str
        labeled = bool((target >= 0).all())
        header = ["item", *(["label"] if labeled else []), "predicted", "probability"]
        header += [f"{column}_{rank + 1}" for rank in range(classes.shape[1]) for column in ("top", "probability")]
        finite = probabilities[:, 0].isfinite()
        if bad := int((~finite).sum()):
            rank_zero_warn(
                f"The model's output is not finite for {bad} of {len(finite)} images: their predictions in {self.path} "
                "are empty."
            )
        table: list[list[Any]] = []
        values = zip(index[order].tolist(), target.tolist(), classes.tolist(), probabilities.double().tolist(), finite)
        for i, label, top, chances, known in values:
            called = [names[c] if names and c < len(names) else str(c) for c in (label, *top)]
            pairs = [value for pair in zip(called[1:], (round(p, 6) for p in chances)) for value in pair]
            pairs = pairs if known else [None] * len(pairs)
            table.append([item_name(i), *called[: int(labeled)], *pairs[:2], *pairs])
        if Path(self.path).suffix == ".parquet":
            frame = _import_pandas().DataFrame(table, columns=header)
            replace_file(self.path, partial(frame.to_parquet, index=False))
        else:
            text = io.StringIO()
            csv.writer(text).writerows([header, *table])
            write_text(self.path, text.getvalue())


def _import_pandas() -> Any:
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise LongTailError(
            "Parquet needs pandas and pyarrow: pip install 'longtail-lightning[parquet]', or write a .csv."
        ) from error
    return pandas
