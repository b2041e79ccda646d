"""The nearest-class-mean classifier: no training, one pass over the features."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.heads._bank_blocks import Features, blocks_of, labels_of, require_finite_sums
from longtail_lightning.heads._base import Head

ABSENT = 1e4
"""How far the logit of a class without features lies below the lowest of the others; fp16 can hold it."""


class NearestClassMeanHead(Head):
    r"""Answer with the class whose mean feature is nearest.

    **What it changes.** All classes weigh the same however many images they have, and nothing is
    trained: `fit` passes over the features, twice with `center`.

    **Formula.** With the mean \(\mu\) of all training features and
    \(\phi(f) = (f - \mu) / \lVert f - \mu \rVert\), the class mean is
    \(m_c = \frac{1}{n_c} \sum_{y_i = c} \phi(f_i)\), not normalized again. Logits are
    \(s \cos(\phi(f), m_c)\), or \(-s \, \lVert \phi(f) - m_c \rVert^2\) with `metric="euclidean"`.

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** Strong on the tail, where a trained classifier has seen too little;
    weaker on classes with many images, which are more than their mean.

    **Classes without features** have no mean and never win: their logit is 10,000 below the lowest of the
    others, finite, so that a loss stays finite too.

    Args:
        num_features: width of the features.
        num_classes: number of classes.
        metric: `"cosine"` or `"euclidean"`.
        center: whether to subtract the mean of all training features, of the images as they are.
        normalize: whether to scale each feature to norm 1.
        scale: factor \(s\) of the logits: changes confidence, not answers.

    Examples:
        >>> from types import SimpleNamespace
        >>> bank = SimpleNamespace(features=torch.tensor([[2.0, 0.1], [3.0, 0.0], [0.0, 1.0]]), labels=[0, 0, 1])
        >>> head = NearestClassMeanHead(2, 3).fit(bank)
        >>> head(torch.tensor([[5.0, 0.3], [0.2, 0.9]])).argmax(1).tolist()
        [0, 1]

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, section 4.

    **Differences from the paper.** Its features are neither centered nor normalized before they are averaged:
    `center=False, normalize=False`. It names two rules, cosine, and the Euclidean distance to class means scaled to
    norm 1; they give the same answers, \(\lVert f - m / \lVert m \rVert \rVert^2 = \lVert f \rVert^2 + 1 - 2
    \lVert f \rVert \cos(f, m)\), so the cosine here is both.

    **Differences from the authors' code.** Theirs, with its default settings, is
    `metric="euclidean"` here (`center` and `normalize` as they are). Its cosine divides by the number of features
    instead of the norms. The default here, the cosine of centered features, is neither theirs nor the paper's.
    """

    center_mean: Tensor
    class_means: Tensor
    class_sizes: Tensor

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        metric: Literal["cosine", "euclidean"] = "cosine",
        center: bool = True,
        normalize: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__(num_features, num_classes)
        if metric not in ("cosine", "euclidean"):
            raise LongTailError(f"Unknown metric={metric!r}: choose 'cosine' or 'euclidean'.")
        require_number(self, "scale", scale, 0, above=True)
        self.metric = metric
        self.center = center
        self.normalize = normalize
        self.scale = scale
        self.register_buffer("center_mean", torch.zeros(num_features))
        self.register_buffer("class_means", torch.zeros(num_classes, num_features))
        self.register_buffer("class_sizes", torch.zeros(num_classes, dtype=torch.int64))
        self._is_fitted = False

    def fit(self, bank: Features, class_counts: ClassCountsLike | None = None) -> Self:
        """Take the means from a bank of training features, in blocks: it may be larger than the memory.

        Args:
            bank: training features and labels.
            class_counts: not needed here; other closed-form heads take them.
        """
        device = self.class_means.device
        labels = labels_of(bank, "NearestClassMeanHead", self.num_classes, device)
        total = torch.zeros(self.num_features, dtype=torch.float64, device=device)
        sums = torch.zeros(self.num_classes, self.num_features, dtype=torch.float64, device=device)
        if self.center:
            for block, _ in blocks_of(bank, labels, self.num_features):
                total += block.sum(0, dtype=torch.float64)
            total /= len(labels)
        sizes = torch.zeros_like(self.class_sizes)
        for block, classes in blocks_of(bank, labels, self.num_features):
            block = self._map(block, total)
            present, place = torch.unique(classes, return_inverse=True)
            part = torch.zeros(len(present), self.num_features, dtype=block.dtype, device=device)
            sums[present] += part.index_add_(0, place, block).double()
            sizes += torch.bincount(classes, minlength=self.num_classes)
        require_finite_sums(sums)
        self.center_mean.copy_(total)
        self.class_means.copy_(sums / sizes.clamp(min=1)[:, None])
        self.class_sizes.copy_(sizes)
        self._is_fitted = True
        return self

    def forward(self, features: Tensor) -> Tensor:
        # A flag, not the sizes each time: asking a device makes the process wait.
        if not self._is_fitted:
            if not bool(self.class_sizes.any()):
                raise LongTailError("NearestClassMeanHead has no class means yet: call head.fit(bank) first.")
            self._is_fitted = True
        if features.shape[-1] != self.num_features:
            raise LongTailError(
                f"NearestClassMeanHead was made for features {self.num_features} wide, got {features.shape[-1]}."
            )
        with torch.autocast(features.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(features.dtype, self.class_means.dtype), torch.float32)
            query = self._map(features.to(dtype), self.center_mean)
            means = self.class_means.to(query.dtype)
            if self.metric == "cosine":
                logits = F.normalize(query, dim=1) @ F.normalize(means, dim=1).T
            else:
                squares = query.square().sum(1, keepdim=True) + means.square().sum(1)
                logits = 2 * query @ means.T - squares
            logits = logits * self.scale
            absent = self.class_sizes == 0
            lowest = logits.detach().masked_fill(absent, torch.inf).amin(1, keepdim=True)
            return torch.where(absent, lowest - ABSENT, logits)

    def _map(self, features: Tensor, mean: Tensor) -> Tensor:
        if self.center:
            features = features - mean.to(features.dtype)
        return F.normalize(features, dim=1) if self.normalize else features
