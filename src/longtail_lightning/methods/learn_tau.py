"""Learn the strength of tau-normalization by gradient, on training features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.features._require import refuse_test, require_bank
from longtail_lightning.features.bank import FeatureBank
from longtail_lightning.features.fit_head import fit_head
from longtail_lightning.heads import LinearHead
from longtail_lightning.heads.tau_normalized import BiasPolicy, check_bias, tau_scale
from longtail_lightning.methods.tau_selection import linear_for


def learn_tau(
    head: nn.Module,
    bank: FeatureBank,
    *,
    initial: float = 0.5,
    epochs: int = 10,
    lr: float = 0.2,
    batch_size: int = 512,
    bias: BiasPolicy = "drop",
    seed: int = 0,
    device: torch.device | str = "auto",
) -> float:
    r"""Learn \(\tau\) of `TauNormalizedHead` by gradient on training features, with class-balanced sampling.

    For when there are no validation images (appendix B.5 of the paper). Weights stay as they are; the
    loss is cross-entropy, so the result also depends on how confident the classifier is, and not on
    accuracy alone. A classifier that has memorized its training images teaches little: prefer
    `select_tau` on validation features. A result outside of -1 to 3 is refused.

    Args:
        head: the trained `LinearHead` or `nn.Linear`.
        bank: training features; a bank of test features is refused.
        initial: where to start.
        epochs: how often as many features as the bank has are drawn.
        lr: first learning rate, which falls to 0 along a cosine.
        batch_size: features per step.
        bias: `"drop"`, as in the paper, or `"keep"`.
        seed: seed of the sampling.
        device: where to compute; by default where the head is, or else a GPU.

    Examples:
        >>> head = LinearHead(2, 2, bias=False)
        >>> _ = head.weight.data.copy_(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
        >>> bank = FeatureBank.from_arrays(torch.tensor([[3.0, 1.0], [1.0, 2.0]]), [0, 1])
        >>> 0.5 < learn_tau(head, bank) < 2.0
        True
    """
    require_bank(bank)
    check_bias(bias)
    require_number("learn_tau", "initial", initial)
    refuse_test(bank, "tau")
    learnable = _LearnableTau(linear_for(head, bank), initial, bias)
    if bank.num_classes < learnable.num_classes:
        learnable.num_classes = bank.num_classes  # classes after the last label have no feature
    fit_head(bank, learnable, epochs=epochs, lr=lr, batch_size=batch_size, weight_decay=0.0, seed=seed, device=device)
    tau = float(learnable.tau.detach())
    if not -1 <= tau <= 3:  # a little below 0 is right for a classifier that was trained on balanced batches
        raise LongTailError(
            f"The learned tau, {tau:.3g}, lies outside of -1 to 3, far from the usual values: "
            "choose it by accuracy, on validation features, or else on training features (select_tau does it)."
        )
    return tau


class _LearnableTau(nn.Module):
    """The tau-normalized classifier with tau as its only parameter."""

    def __init__(self, linear: LinearHead, initial: float, bias: BiasPolicy) -> None:
        super().__init__()
        self.num_classes = linear.num_classes
        self.linear = linear.to(torch.promote_types(linear.weight.dtype, torch.float32))
        self.tau = nn.Parameter(linear.weight.new_tensor(initial))
        self.bias = bias

    def forward(self, features: Tensor) -> Tensor:
        logits = F.linear(features, self.linear.weight) * tau_scale(self.linear.weight, self.tau)
        return logits if self.bias == "drop" or self.linear.bias is None else logits + self.linear.bias
