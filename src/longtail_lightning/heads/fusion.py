"""The logits of two branches as those of one classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number, require_whole

Scale = float | Literal["paper", "learned"]
_FIRST = 8.0


class Fusion(nn.Module, ABC):
    """Base of all fusions: logits of a base and of a retrieval branch, `(batch, num_classes)` each, to logits."""

    @abstractmethod
    def fuse(self, base: Tensor, retrieved: Tensor) -> Tensor:
        """The formula, in float32 or float64."""

    def forward(self, base: Tensor, retrieved: Tensor) -> Tensor:
        """Logits of both branches together, in float32 at least, also inside autocast."""
        with torch.autocast(base.device.type, enabled=False):
            kind = torch.promote_types(torch.promote_types(base.dtype, retrieved.dtype), torch.float32)
            return self.fuse(base.to(kind), retrieved.to(kind))


class NormalizedSum(Fusion):
    r"""The sum of the directions of both branches: neither can shout the other down.

    **Formula.** \(s \left(\frac{z^{ret}}{\|z^{ret}\|_2} + \frac{z^{base}}{\|z^{base}\|_2}\right)\), with \(s = L / 2\)
    in the paper for \(L\) classes.

    **When it helps, when it hurts.** \(L / 2\) fixes the root mean square of each branch's logits at
    \(\sqrt{L} / 2\): 5 for 100 classes, where training collapsed, and 45 for the 8,142 of iNaturalist. A constant near
    8 trained well here. Logits that are all zero have no direction: start with heads that are not zero.

    Args:
        scale: \(s\): a number, `"paper"` for \(L / 2\), or `"learned"`, which begins at 8.

    Examples:
        >>> fuse = NormalizedSum(10.0)
        >>> fuse(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.1]]))
        tensor([[ 6., 18.]])

    **Paper.** Long et al., Retrieval Augmented Classification, CVPR 2022, eq. 5.

    **Differences from the paper.** The default scale is a constant.
    """

    def __init__(self, scale: Scale = _FIRST) -> None:
        super().__init__()
        if isinstance(scale, str) and scale not in ("paper", "learned"):
            raise LongTailError(f"Unknown scale={scale!r}: choose a number, 'paper' or 'learned'.")
        if not isinstance(scale, str):
            require_number(self, "scale", scale, 0, above=True)
        self.scale = scale
        self.learned_scale = nn.Parameter(torch.tensor(_FIRST)) if scale == "learned" else None

    def fuse(self, base: Tensor, retrieved: Tensor) -> Tensor:
        scale: float | Tensor = base.shape[1] / 2
        if self.learned_scale is not None:
            scale = self.learned_scale
        elif not isinstance(self.scale, str):
            scale = self.scale
        return scale * (F.normalize(retrieved, dim=1) + F.normalize(base, dim=1))

    def extra_repr(self) -> str:
        return f"scale={self.scale!r}"


class PlainSum(Fusion):
    r"""The sum of both branches, \(z^{ret} + z^{base}\): the louder one decides.

    Examples:
        >>> PlainSum()(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([[3., 6.]])

    **Paper.** Long et al., CVPR 2022, section 3.3, which leaves it for eq. 5.
    """

    def __init__(self) -> None:
        super().__init__()

    def fuse(self, base: Tensor, retrieved: Tensor) -> Tensor:
        return base + retrieved


class GatedSum(Fusion):
    r"""A sum of the directions of both branches, weighted anew for each image.

    **Formula.** \(2 s \left(g \frac{z^{ret}}{\|z^{ret}\|_2} + (1 - g) \frac{z^{base}}{\|z^{base}\|_2}\right)\), with
    \(g = \sigma(w^\top [z^{base} / \|z^{base}\|_2, z^{ret} / \|z^{ret}\|_2] + b)\), learned and \(\frac{1}{2}\) at
    first, so that it begins as `NormalizedSum`.

    Args:
        num_classes: number of logits.
        scale: \(s\), a number.

    Examples:
        >>> GatedSum(2, scale=10.0)(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.1]]))
        tensor([[ 6., 18.]], grad_fn=<MulBackward0>)

    **Paper.** None; Long et al., CVPR 2022, section 3.3, name a weighting by confidence as an alternative to eq. 5.
    """

    def __init__(self, num_classes: int, *, scale: float = _FIRST) -> None:
        super().__init__()
        require_whole(self, "num_classes", num_classes, 1)
        require_number(self, "scale", scale, 0, above=True)
        self.num_classes = num_classes
        self.scale = scale
        self.gate = nn.Linear(2 * num_classes, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def fuse(self, base: Tensor, retrieved: Tensor) -> Tensor:
        first, second = F.normalize(base, dim=1), F.normalize(retrieved, dim=1)
        gate: Tensor = self.gate(torch.cat([first, second], 1).to(self.gate.weight.dtype)).sigmoid().to(first.dtype)
        return 2 * self.scale * (gate * second + (1 - gate) * first)
