"""Logit-adjusted softmax cross-entropy (Menon et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import LongTailLoss, Normalize, Reduction


class LogitAdjustedLoss(LongTailLoss):
    r"""Cross-entropy on logits raised by the log prior: the model learns what the prior does not say.

    **What it changes.** A rare class must beat frequent ones by a margin during training; at test
    time the plain logits then rank the classes as if all were equally frequent.

    **Formula.** \(-\alpha_y \log \frac{e^{z_y + \tau \Delta_y}}{\sum_j e^{z_j + \tau \Delta_j}}\) with
    \(\Delta_c = \log \pi_c = \log (n_c / N)\), or any `offset`, and \(\alpha_y\) from `weighting`
    (1 by default). A soft target of mixup or cutmix mixes the adjusted losses of its classes; the
    adjustment itself stays one per class.

    **Shapes.** logits `(batch, C)`; target `(batch,)` indices or `(batch, C)` probabilities.

    **When it helps, when it hurts.** The strongest one-line change when the test set is balanced.
    When the test set is as long-tailed as the training set it costs accuracy: use `tau=0`, or train
    with cross-entropy and adjust afterwards with the `LogitAdjustment` callback.

    **Classes without images** get the prior of a class with one image.

    Args:
        class_counts: training images per class.
        tau: strength; 1 is Fisher consistent for the balanced error, 0 is cross-entropy.
        offset: \(\Delta\), one number per class; the log prior by default.
        label_smoothing: as in `CrossEntropyLoss`.
        weighting: re-weighting of the samples by class, see `LongTailLoss`.
        normalize: scale of those weights, see `LongTailLoss`.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = LogitAdjustedLoss(class_counts=[90, 10])
        >>> logits = torch.zeros(2, 2)
        >>> [round(value, 3) for value in LogitAdjustedLoss([90, 10], reduction="none")(
        ...     logits, torch.tensor([0, 1])).tolist()]
        [0.105, 2.303]

    **Paper.** Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021, eq. 10; the general
    form is eq. 3 of Long et al., Retrieval Augmented Classification, CVPR 2022.

    **Differences from the authors' code.** None in the formula. Public ports count labels by
    iterating the augmented loader and give wrong offsets when a class is absent; here the counts
    come from labels.
    """

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        tau: float = 1.0,
        offset: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        weighting: str = "none",
        normalize: Normalize = "global",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, weighting=weighting, normalize=normalize, reduction=reduction)
        require_number(self, "tau", tau)
        if offset is not None:
            offset = list(offset) if isinstance(offset, Iterable) else [offset]
            for value in offset:
                require_number(self, "offset", value)
        self.tau = tau
        self.offset = None if offset is None else [float(value) for value in offset]
        # Kept out of the buffers, which `.half()` would round.
        self._offset = None if self.offset is None else torch.tensor(self.offset, dtype=torch.float64)
        require_number(self, "label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        if self._offset is not None and len(self._offset) != logits.shape[1]:
            raise LongTailError(
                f"LogitAdjustedLoss has an offset for {len(self._offset)} classes but the logits have "
                f"{logits.shape[1]}: pass one number per class."
            )
        return functional.logit_adjusted(
            logits,
            target,
            self.bound_counts,
            tau=self.tau,
            offset=self._offset,
            label_smoothing=self.label_smoothing,
        )
