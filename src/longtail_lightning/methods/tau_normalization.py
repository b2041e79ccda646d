r"""\(\tau\)-normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.features import FeatureBank, HeadTraining
from longtail_lightning.heads import TauNormalizedHead
from longtail_lightning.heads.tau_normalized import BiasPolicy, linear_of
from longtail_lightning.methods.base import GIVE_VALIDATION, Device, Retrained, Retraining
from longtail_lightning.methods.learn_tau import learn_tau
from longtail_lightning.methods.tau_selection import TAUS, check_taus, select_tau


class TauNormalization(Retraining):
    r"""\(\tau\)-normalization, with \(\tau\) chosen on validation or training features, learned, or given.

    Args:
        choose: `"val"`: the best accuracy on validation features; `"train"`: the best mean accuracy over the classes on
            training features; `"learn"`: by gradient on class-balanced training features, refused outside of -1 to 3.
        tau: a fixed value instead.
        taus: what is tried.
        bias: `"drop"`, as in the paper, or `"keep"`.
        epochs: of `"learn"`: as many features as the bank has are drawn in each.
        lr: of `"learn"`: first learning rate, which falls to 0 along a cosine.
        batch_size: of `"learn"`: features per step.
        seed: of `"learn"`: seed of the order.
        name: what files are called.

    Examples:
        >>> import torch
        >>> from longtail_lightning import LinearHead
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> TauNormalization(tau=0.5)(LinearHead(4, 4), bank).details
        {'tau': 0.5}
    """

    name = "tau"

    def __init__(
        self,
        *,
        choose: Literal["val", "train", "learn"] = "val",
        tau: float | None = None,
        taus: Sequence[float] = TAUS,
        bias: BiasPolicy = "drop",
        epochs: int = 10,
        lr: float = 0.2,
        batch_size: int = 512,
        seed: int = 0,
        name: str = "tau",
    ) -> None:
        super().__init__(name)
        if choose not in ("val", "train", "learn"):
            raise LongTailError(f"Unknown choose={choose!r}: tau is chosen on 'val' or 'train', or by 'learn'.")
        self.choose = choose
        self.tau = tau
        self.taus = check_taus(taus, bias)
        if tau is not None:
            check_taus([tau], bias)
        self.bias = bias
        HeadTraining(epochs=epochs, lr=lr, batch_size=batch_size)  # it refuses impossible values
        self.learning: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        details = self._choose(head, train, val, device)
        new = TauNormalizedHead(head, tau=details["tau"], bias=self.bias)
        return Retrained(new, f"{self.label} {new.tau:.3g}", details)

    def check(self, head: nn.Module, *, validation: bool = True) -> None:
        linear_of(head, "tau-normalization")
        if self.tau is None and self.choose == "val" and not validation:
            raise LongTailError(
                f"There are no validation images to choose tau on: {GIVE_VALIDATION}, or choose tau on the training "
                'features with TauNormalization(choose="train"), or fix it with TauNormalization(tau=0.7).'
            )

    def _choose(self, head: nn.Module, train: FeatureBank, val: FeatureBank | None, device: Device) -> dict[str, Any]:
        if self.tau is not None:
            return {"tau": self.tau}
        if self.choose == "learn":
            return {"tau": learn_tau(head, train, **self.learning, bias=self.bias, device=device)}
        self.check(head, validation=val is not None)
        bank = train if self.choose == "train" or val is None else val
        found = select_tau(head, bank, self.taus, class_counts=train.class_counts, bias=self.bias, device=device)
        return {"tau": found.tau, "curve": found.curve(self.choose)}
