"""The default optimizer and the learning-rate schedules of the papers."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number


def when_to_step(scheduler: Any, trainer: L.Trainer) -> dict[str, Any]:
    """How Lightning steps a scheduler: ours per batch, any other per epoch.

    Args:
        scheduler: made for the optimizer.
        trainer: tells how long the run is.
    """
    if not isinstance(scheduler, WarmupCosine):
        return {"scheduler": scheduler, "interval": "epoch", "monitor": getattr(scheduler, "monitor", "val/loss")}
    if scheduler.total_steps is None:
        steps = trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise LongTailError(
                "The default schedule must know how long the run is: set max_epochs or max_steps, "
                "or give another lr_scheduler."
            )
        scheduler.set_total_steps(int(steps))
    return {"scheduler": scheduler, "interval": "step"}


def default_sgd(params: Iterable[Tensor]) -> Optimizer:
    """SGD as the papers use it: lr 0.1, Nesterov momentum 0.9, weight decay 5e-4."""
    return SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


class WarmupCosine(LRScheduler):
    """Linear warm-up, then a cosine down to `final` of the base learning rate, stepped per batch.

    Args:
        optimizer: the optimizer.
        warmup: share of the run spent warming up.
        final: last learning rate over base learning rate.
        total_steps: optimizer steps of the whole run; the LightningModules fill it in.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = WarmupCosine(optimizer, warmup=0.5, total_steps=4)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(round(schedule.get_last_lr()[0], 3))
        ...     optimizer.step(); schedule.step()
        >>> rates
        [0.5, 1.0, 1.0, 0.5]
    """

    def __init__(
        self, optimizer: Optimizer, warmup: float = 0.05, final: float = 0.0, total_steps: int | None = None
    ) -> None:
        if not 0.0 <= warmup < 1.0:
            raise LongTailError(f"warmup={warmup} is a share of the run: at least 0 and below 1.")
        self.warmup = warmup
        require_number(self, "final", final, 0)
        self.final = final
        self.total_steps = total_steps
        super().__init__(optimizer)

    def set_total_steps(self, total_steps: int) -> None:
        """Say how long the run is, before its first step."""
        self.total_steps = total_steps
        for group, rate in zip(self.optimizer.param_groups, self.get_lr()):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All but the length of the run, which belongs to the run: a resumed one may be longer."""
        return {key: value for key, value in super().state_dict().items() if key != "total_steps"}

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Learning rate of each parameter group at this step."""
        return [float(base) * self._factor() for base in self.base_lrs]

    def _factor(self) -> float:
        if self.total_steps is None:
            return 1.0
        warm = round(self.warmup * self.total_steps)
        if self.last_epoch < warm:
            return (self.last_epoch + 1) / warm
        done = min(1.0, (self.last_epoch - warm) / max(1, self.total_steps - warm))
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


class WarmupMultiStep(LRScheduler):
    r"""Linear warm-up over the first epochs, then drops at milestones: the CIFAR schedule of LDAM.

    Stepped per epoch, constant within one, as the authors do. Counting epochs from 0, epoch e of a warm-up of
    w epochs has \((e + 1) / w\) of the base learning rate; from each milestone on it is `gamma` times what it was.

    Args:
        optimizer: the optimizer.
        milestones: first epochs of the lower learning rates.
        gamma: factor of each drop.
        warmup_epochs: epochs of the warm-up, 0 for none.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule = WarmupMultiStep(optimizer, milestones=[4, 5], warmup_epochs=2)
        >>> rates = []
        >>> for _ in range(6):
        ...     rates.append(round(schedule.get_last_lr()[0], 7))
        ...     optimizer.step(); schedule.step()
        >>> rates
        [0.05, 0.1, 0.1, 0.1, 0.001, 1e-05]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int] = (160, 180),
        gamma: float = 0.01,
        warmup_epochs: int = 5,
    ) -> None:
        if warmup_epochs < 0 or list(milestones) != sorted(milestones):
            raise LongTailError(
                f"milestones={list(milestones)} must be epochs in rising order, "
                f"and warmup_epochs={warmup_epochs} 0 or more."
            )
        self.milestones = list(milestones)
        require_number(self, "gamma", gamma, 0)
        self.gamma = gamma
        self.warmup_epochs = warmup_epochs
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Learning rate of each parameter group in this epoch."""
        # From the base learning rates, not from the last ones: nothing accumulates, also after a resume.
        epoch = self.last_epoch
        factor = min(1.0, (epoch + 1) / max(1, self.warmup_epochs))
        factor *= self.gamma ** bisect_right(self.milestones, epoch)
        return [float(base) * factor for base in self.base_lrs]


def with_slow_parts(
    module: Any, optimizer: Callable[..., Optimizer], parts: Sequence[nn.Module], factor: float
) -> Optimizer:
    """An optimizer over what is trained, with a group and a learning rate of its own for some parts.

    Args:
        module: whose parameters are trained.
        optimizer: from parameter groups to optimizer.
        parts: the slow ones.
        factor: their learning rate over that of everything else.
    """
    slow = [p for part in parts for p in part.parameters() if p.requires_grad]
    ids = {id(p) for p in slow}
    fast = [p for p in module.parameters() if p.requires_grad and id(p) not in ids]
    made: Optimizer = optimizer([{"params": group} for group in (fast, slow) if group])
    if slow:
        made.param_groups[-1]["lr"] *= factor
    return made
