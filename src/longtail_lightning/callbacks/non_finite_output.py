"""End an evaluation with an error when the model's outputs are not numbers."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._outputs import outputs_of


class NonFiniteOutputGuard(L.Callback):
    """Fail when the model gives images no finite probabilities: NaN weights, NaN images, an overflow in fp16.

    Without it such images count as wrong, and a warning tells how many there are. With it `validate`, `test` and
    `predict` first write their reports and predictions, and then raise; a fit ends after its validation.
    `ltl test --fail_on_nan` installs it.

    Works on any module whose steps return `{"logits": logits}`. Give it as the last callback: those before it then
    end their work before it raises.

    Examples:
        >>> trainer = L.Trainer(callbacks=[NonFiniteOutputGuard()], logger=False)
    """

    def __init__(self) -> None:
        self._seen: Tensor | None = None  # images without probabilities, and all images
        self._problem: str | None = None

    # -- counting --------------------------------------------------------------------------------

    def _begin(self, pl_module: L.LightningModule) -> None:
        self._seen, self._problem = torch.zeros(2, dtype=torch.int64, device=pl_module.device), None

    def _count(self, pl_module: L.LightningModule, step: str, outputs: Any) -> None:
        if self._seen is not None:
            finite = finite_rows(outputs_of(outputs, pl_module, step)["logits"])
            self._seen += torch.stack([(~finite).sum(), torch.tensor(len(finite), device=finite.device)])

    def _finish(self, trainer: L.Trainer, what: str) -> None:
        if self._seen is None:
            return
        bad, total = (int(number) for number in trainer.strategy.reduce(self._seen, reduce_op="sum"))
        self._seen = None
        if bad:
            self._problem = (
                f"The model's output is not finite for {bad} of {total} images of {what}: look for NaN in the images "
                "and in the weights of the checkpoint, or compute in another precision than fp16."
            )

    def _fail(self) -> None:
        if self._problem is not None:
            raise LongTailError(self._problem)

    # -- hooks -----------------------------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(pl_module)

    def on_predict_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(pl_module)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(pl_module, "validation_step", outputs)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(pl_module, "test_step", outputs)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(pl_module, "predict_step", outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, "the validation split")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, "the test split")

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, "the predicted split")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._fail()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # The last hook: reports are printed and files are written.
        self._fail()


def finite_rows(logits: Tensor) -> Tensor:
    """Which rows give probabilities; -inf is a class that is left out, unless all of them are.

    Examples:
        >>> inf, nan = float("inf"), float("nan")
        >>> finite_rows(torch.tensor([[0.0, 1.0], [0.0, -inf], [nan, 1.0], [-inf, -inf], [inf, 0.0]])).tolist()
        [True, True, False, False, False]
    """
    return logits.amax(1).isfinite()  # NaN is larger than any number
