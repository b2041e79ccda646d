"""The heads that are compared: how each is made, and which is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._heads import in_float
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.methods import Retrained, Retraining

JOINT = "joint"
_log = logging.getLogger(__name__)


class Candidates:
    """Classifiers on the same features, the jointly trained one first.

    Args:
        trainer: of the fit that is over.
        joint: the jointly trained head.
    """

    def __init__(self, trainer: L.Trainer, joint: nn.Module) -> None:
        self.trainer = trainer
        self.found = {JOINT: Retrained(in_float(joint), "Joint")}
        """Name of a method -> what it gave."""
        self.failed: dict[str, str] = {}
        """Name of a method that could not be finished -> why."""
        self.seconds: dict[str, float] = {}
        """How long each took."""

    def add(self, method: Retraining, train: FeatureBank, val: FeatureBank | None) -> None:
        """Let a method make its head, the same in all processes; a method that fails does not stop the others."""
        made, reason = None, "another process tells why"
        with self.timed(method.name):
            try:
                made = self._made(method, train, val)
            except LongTailError as error:
                reason = str(error)
            except Exception as error:
                # A loss or a sampler of the user may raise anything; the log shows its author where.
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                _log.warning("%s failed:", method.name, exc_info=error)
        if not self.trainer.strategy.reduce_boolean_decision(made is not None) or made is None:
            self.failed[method.name] = reason
            return
        # All processes did the same work, but rounding may differ between them.
        made.head.load_state_dict(self.trainer.strategy.broadcast(made.head.state_dict()))
        self.found[method.name] = made

    def _made(self, method: Retraining, train: FeatureBank, val: FeatureBank | None) -> Retrained:
        made = method(self.found[JOINT].head, train, val, device=self.trainer.strategy.root_device)
        if not isinstance(made, Retrained):
            raise LongTailError(
                f"{type(method).__name__} returned a {type(made).__name__}: return Retrained(head, self.label)."
            )
        return made

    def accuracy(self, bank: FeatureBank | None, *, groups: Tensor | None = None) -> dict[str, Tensor]:
        """Accuracy of each class by each head on a bank, among the classes of its group alone; nothing without one."""
        if bank is None:
            return {}
        device = self.trainer.strategy.root_device
        return {name: class_accuracy(found.head, bank, device, groups=groups) for name, found in self.found.items()}

    def choose(self, keep: str, accuracy: dict[str, Tensor]) -> str | None:
        """Name of the head that the model gets; None when the model is to stay as the fit left it."""
        if keep == "none" or keep in self.failed:
            return None
        if keep != "best":
            return keep
        # The first of equals: the joint classifier stays unless another is better.
        return max(accuracy, key=lambda name: float(accuracy[name].nanmean()))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long a block takes."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)
