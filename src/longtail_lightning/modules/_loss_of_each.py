"""One loss per sample, of a loss that was made to give their mean."""

from __future__ import annotations

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError


def loss_of_each(loss: nn.Module, *arguments: Tensor | None) -> Tensor:
    """`(batch,)`: as with `reduction="none"`, in such a scale that their mean is the loss as it was made.

    Args:
        loss: has a `reduction`, as the losses here and in torch do.
        arguments: of its call.
    """
    if (before := getattr(loss, "reduction", None)) is not None:
        loss.reduction = "none"  # type: ignore[assignment]
        try:
            losses: Tensor = loss(*arguments)
        finally:
            loss.reduction = before
    if before is None or losses.ndim != 1:
        raise LongTailError(
            f"{type(loss).__name__} gives one loss for a whole batch, and alpha_by_count needs one per sample: choose "
            "one with an argument `reduction`, or leave alpha_by_count at 0."
        )
    if getattr(loss, "normalize", None) == "weight_sum":
        mean: Tensor = loss(*arguments)  # is divided by the weights of the batch, which no gradient sees
        losses = losses * (mean / losses.mean()).detach().nan_to_num(1.0)
    return losses * len(losses) if before == "sum" else losses
