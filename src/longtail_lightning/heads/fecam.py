"""The class whose distribution fits best: class means with a covariance for each class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.heads._bank_blocks import Features, features_of_classes, labels_of, require_finite_sums
from longtail_lightning.heads._base import Head
from longtail_lightning.heads._kept_rows import kept_rows
from longtail_lightning.heads.nearest_class_mean import ABSENT

_NUMBERS = 2**26
"""How many numbers `forward` may hold at a time, beyond inputs and outputs."""


class FeCAMHead(Head):
    r"""Answer with the class whose mean is nearest when distances are measured in the shape of each class.

    **What it changes.** A prototype says where a class lies; the covariance also says in which directions it is wide.
    Nothing is trained, and classes can be added at any time.

    **Formula.** With \(x = f^\lambda / \lVert f^\lambda \rVert\) and the covariance \(\Sigma_c\) of a class:
    \(\Sigma^s_c = \Sigma_c + \gamma_1 V_1 I + \gamma_2 V_2 (1 - I)\), where \(V_1\) is the mean of its diagonal and
    \(V_2\) that of the rest; \(\hat\Sigma_c\), its correlation matrix; logits
    \(z_c = -s \, (x - \mu_c)^\top \hat\Sigma_c^{-1} (x - \mu_c)\).

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** With enough images per class, on features that were not trained on these classes.
    A class with few images has no covariance to speak of: it mostly takes the one that all classes share, by `pooled`.
    Memory and time grow with the square of `num_features`, for each class.

    **Classes without features** never win: their logit is 10,000 below the lowest of the others.

    Args:
        num_features: width of the features.
        num_classes: number of classes; `add_classes` and `remove_classes` change it.
        tukey: exponent \(\lambda\), which makes features after a ReLU look more like a normal distribution; negative
            ones keep their sign. 1 leaves features as they are.
        gamma1: \(\gamma_1\), how much of the mean variance is added to each variance.
        gamma2: \(\gamma_2\), how much of the mean covariance is added to each covariance.
        pooled: the covariance of \(n\) images counts as \(n - 1\), the one that all classes share as `pooled`, and
            \(\Sigma_c\) is their weighted mean. 0 is the paper's; 1e9 is its variant with a common covariance.
        scale: factor \(s\) of the logits: changes confidence, not answers.

    Examples:
        >>> from types import SimpleNamespace
        >>> bank = SimpleNamespace(features=torch.rand(20, 3), labels=[0] * 15 + [1] * 5)
        >>> head = FeCAMHead(3, 2).fit(bank)
        >>> head.add_classes([torch.rand(2, 3)])
        >>> head(torch.rand(4, 3)).shape
        torch.Size([4, 3])

    **Paper.** Goswami et al., FeCAM, NeurIPS 2023. Parisot et al. (2022) leave distributions in the place of prototypes
    to future work.

    **Differences from the paper.** `pooled`: on a long tail most classes have too few images for a covariance. The
    paper's features are never negative.

    **Differences from the authors' code.** None in the steps, which are those of their script for a pretrained encoder,
    with Tukey's transformation before the normalization. They invert with a pseudo-inverse; here a matrix that has
    no inverse is an error.
    """

    class_means: Tensor
    """`(C, F)`."""
    whitening: Tensor
    r"""`(C, F, F)`: \(L_c^{-1}\), where \(L_c L_c^\top = \hat\Sigma_c\)."""
    class_sizes: Tensor
    """`(C,)`, int64."""
    shared_covariance: Tensor
    """`(F, F)`: that within all classes which `fit` saw."""

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        tukey: float = 0.5,
        gamma1: float = 1.0,
        gamma2: float = 1.0,
        pooled: float = 10.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__(num_features, num_classes)
        require_number(self, "tukey", tukey, 0, above=True)
        require_number(self, "gamma1", gamma1, 0)
        require_number(self, "gamma2", gamma2, 0)
        require_number(self, "pooled", pooled, 0)
        require_number(self, "scale", scale, 0, above=True)
        self.tukey = float(tukey)
        self.gamma1 = float(gamma1)
        self.gamma2 = float(gamma2)
        self.pooled = float(pooled)
        self.scale = float(scale)
        self.register_buffer("class_means", torch.zeros(num_classes, num_features))
        self.register_buffer("whitening", torch.zeros(num_classes, num_features, num_features))
        self.register_buffer("class_sizes", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("shared_covariance", torch.zeros(num_features, num_features))

    @torch.inference_mode(False)
    @torch.no_grad()
    def fit(self, bank: Features, class_counts: ClassCountsLike | None = None) -> Self:
        """Take means and covariances from training features.

        Args:
            bank: training features and labels.
            class_counts: not needed here; other closed-form heads take them.
        """
        device, width = self.class_means.device, self.num_features
        labels = labels_of(bank, "FeCAMHead", self.num_classes, device)
        sizes = torch.bincount(labels, minlength=self.num_classes)
        within = torch.zeros(width, width, dtype=torch.float64, device=device)
        for _, features in features_of_classes(bank, labels, sizes, width):
            within += _scatter(self._map(features.double()))
        require_finite_sums(within)
        free = int((sizes - 1).clamp(min=0).sum())
        # Without two images of any class there is no covariance: all directions are alike.
        shared = within / free if bool(within.any()) else torch.eye(width, dtype=torch.float64, device=device)
        common = shared.to(self.shared_covariance)
        means, whitening = torch.zeros_like(self.class_means), torch.zeros_like(self.whitening)
        for c, features in features_of_classes(bank, labels, sizes, width):
            # In the precision in which classes that are added later find it.
            means[c], whitening[c] = self._describe(features, common.double())
        # When nothing can fail any more.
        self.shared_covariance, self.class_means, self.whitening, self.class_sizes = common, means, whitening, sizes
        return self

    @torch.inference_mode(False)
    @torch.no_grad()
    def add_classes(self, features: Sequence[Tensor]) -> None:
        """Append classes, without any training.

        Args:
            features: those of each new class, `(n, num_features)`.
        """
        self._require_fitted()
        if not len(features):
            raise LongTailError("No class is given: add_classes takes the features of each new class.")
        for given in features:
            if given.ndim != 2 or given.shape[1] != self.num_features or len(given) == 0:
                raise LongTailError(
                    f"A new class needs features (n, {self.num_features}), got shape {tuple(given.shape)}."
                )
        shared = self.shared_covariance.double()
        described = [self._describe(given.to(shared.device), shared) for given in features]
        means, whitening = (torch.stack(parts) for parts in zip(*described))
        self.class_means = torch.cat([self.class_means, means.to(self.class_means)])
        self.whitening = torch.cat([self.whitening, whitening.to(self.whitening)])
        self.class_sizes = torch.cat([self.class_sizes, self.class_sizes.new_tensor(list(map(len, features)))])
        self.num_classes = len(self.class_sizes)

    @torch.inference_mode(False)
    @torch.no_grad()
    def remove_classes(self, indices: Sequence[int]) -> None:
        """Take classes out; the others keep their order.

        Args:
            indices: numbers of the classes.
        """
        self._require_fitted()
        rows = kept_rows(self.num_classes, indices).to(self.class_sizes.device)
        for name in ("class_means", "whitening", "class_sizes"):
            setattr(self, name, getattr(self, name)[rows])
        self.num_classes = len(rows)

    def forward(self, features: Tensor) -> Tensor:
        self._require_fitted()
        if features.shape[-1] != self.num_features:
            raise LongTailError(f"FeCAMHead was made for features {self.num_features} wide, got {features.shape[-1]}.")
        with torch.autocast(features.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(features.dtype, self.class_means.dtype), torch.float32)
            x = self._map(features.to(dtype))
            classes = max(1, _NUMBERS // max(1, x.numel()))
            distances = torch.cat(
                [
                    torch.einsum("cij,bcj->bci", whitening.to(dtype), x[:, None] - means.to(dtype)).square().sum(2)
                    for whitening, means in zip(
                        torch.split(self.whitening, classes), torch.split(self.class_means, classes)
                    )
                ],
                dim=1,
            )
            logits = -self.scale * distances
            absent = self.class_sizes == 0
            lowest = logits.detach().masked_fill(absent, torch.inf).amin(1, keepdim=True)
            return torch.where(absent, lowest - ABSENT, logits)

    def _map(self, features: Tensor) -> Tensor:
        if self.tukey != 1.0:
            # The gradient of a power is infinite at 0.
            power = features.abs().clamp(min=torch.finfo(features.dtype).tiny) ** self.tukey
            features = torch.where(features == 0, 0.0, features.sign() * power)
        return F.normalize(features, dim=1)

    def _describe(self, features: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and whitening matrix of one class, float64."""
        if not bool(features.isfinite().all()):
            raise LongTailError("The features of a class hold NaN or infinity: look at its pictures.")
        x = self._map(features.double())
        weight = (len(x) - 1) / max(1e-9, len(x) - 1 + self.pooled)
        own = _scatter(x) / max(1, len(x) - 1)
        covariance = weight * own + (1 - weight) * shared
        size = len(covariance)
        variance = covariance.diagonal().mean()
        rest = (covariance.sum() - size * variance) / max(1, size * (size - 1))
        unit = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
        covariance = covariance + self.gamma1 * variance * unit + self.gamma2 * rest * (1 - unit)
        deviation = covariance.diagonal().sqrt()
        factor, failed = torch.linalg.cholesky_ex(covariance / deviation / deviation[:, None])
        if bool(failed) or not bool(factor.isfinite().all()):
            raise LongTailError(
                f"The covariance of a class with {len(x)} images has no inverse: give a larger gamma1 or pooled."
            )
        return x.mean(0), torch.linalg.solve_triangular(factor, unit, upper=False)

    def _require_fitted(self) -> None:
        if not bool(self.class_sizes.any()):
            raise LongTailError("FeCAMHead knows no class yet: call head.fit(bank) first.")


def _scatter(x: Tensor) -> Tensor:
    centered = x - x.mean(0)
    return centered.T @ centered
