"""Class weights from class counts: one notion that every loss shares."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError

Normalize = Literal["batch", "weight_sum", "global"]

_KINDS = ("none", "inverse", "inverse_sqrt", "inverse_log")
DEFAULT_BETA = 0.9999


def class_weights(
    class_counts: Tensor, weighting: str, *, normalize: Normalize = "global", dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""One weight per class, the larger the rarer the class.

    | weighting | weight before scaling | paper |
    | --- | --- | --- |
    | `none` | 1 | |
    | `inverse` | \(1 / n_c\) | balanced cross-entropy; RAC eq. 2 |
    | `inverse_sqrt` | \(1 / \sqrt{n_c}\) | RAC eq. 7 |
    | `inverse_log` | \(1 / \log n_c\) | RAC eq. 6 |
    | `effective(BETA)` | \((1 - \beta) / (1 - \beta^{n_c})\) | Cui et al. 2019, section 4 |

    `effective` alone means `effective(0.9999)`. A class without images weighs as much as one with a
    single image; under `inverse_log`, where a single image would weigh infinitely, both weigh as
    much as a class with two.

    Args:
        class_counts: images per class, an integer tensor.
        weighting: one of the table.
        normalize: `"global"` scales the weights to mean 1 over the training images, the others to
            mean 1 over the classes (so that they sum to their number).
        dtype: of the result.

    Examples:
        >>> class_weights(torch.tensor([3, 1]), "inverse", normalize="batch").tolist()
        [0.5, 1.5]
        >>> class_weights(torch.tensor([3, 1]), "inverse", normalize="global").tolist()
        [0.666..., 2.0]
    """
    kind, beta = parse_weighting(weighting)
    at_least_one = class_counts.clamp(min=1).to(dtype)
    if kind == "none":
        weights = torch.ones_like(at_least_one)
    elif kind == "inverse":
        weights = 1 / at_least_one
    elif kind == "inverse_sqrt":
        weights = at_least_one.rsqrt()
    elif kind == "inverse_log":
        weights = 1 / at_least_one.clamp(min=2).log()
    else:
        # expm1 keeps all digits where beta^n is close to 1; the constant 1 - beta cancels below.
        weights = -1 / torch.expm1(at_least_one * math.log(beta))
    if normalize != "global":
        return weights / weights.mean()
    prior = class_counts.to(dtype) / class_counts.sum().to(dtype)
    return weights / (prior * weights).sum()


def parse_weighting(weighting: str) -> tuple[str, float]:
    """Split a weighting into its kind and its beta.

    Raises:
        LongTailError: for a weighting that does not exist.

    Examples:
        >>> parse_weighting("effective(0.99)"), parse_weighting("inverse")
        (('effective', 0.99), ('inverse', 0.9999))
    """
    if weighting in _KINDS:
        return weighting, DEFAULT_BETA
    if weighting == "effective":
        return weighting, DEFAULT_BETA
    inside = weighting.removeprefix("effective(").removesuffix(")")
    try:
        beta = float(inside)
    except ValueError:
        beta = math.nan
    if f"effective({inside})" != weighting or not 0.0 < beta < 1.0:
        raise LongTailError(
            f"Unknown weighting {weighting!r}: choose {', '.join(map(repr, _KINDS))}, 'effective' or "
            "'effective(BETA)' with 0 < BETA < 1 (0 would be 'none', 1 would be 'inverse')."
        )
    return "effective", beta
